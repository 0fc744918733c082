"""The library as a package of its own: what a wheel holds, what it needs, and the drop-in far from any clone."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Mapping
from email.parser import Parser
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

import models
from models.attention.prefill.window_weights import built_pass

ROOT = Path(__file__).resolve().parents[1]
LIBRARY, PASS = ROOT / "models", "lm_infinite/attention/native/libattention.so"
OF_PACKAGING = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "requirements*.txt")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")
NEEDS = ("torch", "transformers", "einops")
OPTIONAL = {"gguf", "protobuf", "sentencepiece"}
"""Imported where they are used, and asked for by `models.errors.need_package`."""

DROP_IN = """
import importlib.util, json, sys

import lm_infinite
cheap = "torch" not in sys.modules
from lm_infinite import *  # every name of the package

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from lm_infinite.assumptions import with_cache
from lm_infinite.attention.prefill.window_weights import built_pass

torch.manual_seed(0)
sizes = dict(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2)
model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)).eval()
model = convert_llama_model(model, 16, 4)
ids, cache = torch.randint(64, (1, 100)), LambdaCache(LambdaConfig(16, 4, 16), 2)
with torch.no_grad():
    whole, chunks = model(ids).logits, []
    for chunk in ids.split(24, dim=1):
        output = model(chunk, use_cache=True, **with_cache(model, cache))
        chunks.append(output.logits)
    written = model.generate(ids, max_new_tokens=8, min_new_tokens=8, do_sample=False, pad_token_id=0)
print(json.dumps({
    "file": lm_infinite.__file__,
    "version": lm_infinite.__version__,
    "cheap": cheap,
    "difference": (torch.cat(chunks, 1) - whole).abs().max().item(),
    "written": list(written.shape),
    "slots": cache.layers[0].keys.shape[2],
    "reverted": is_converted(model) and not is_converted(revert_model(model)),
    "built": built_pass() is not None,
    "others": sorted({"datasets", "deepspeed", "matplotlib", "models", "utils"} & set(sys.modules)),
    "clone": importlib.util.find_spec("models") is not None,
}))
"""


def run(*command: object, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command, which must succeed. Nothing of this process's paths comes along."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "CXX")}
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, env=kept | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def pip_wheel(source: Path, folder: Path, **environment: str) -> tuple[Path, str]:
    """The wheel that pip builds from a tree or an sdist, and what pip says."""
    command = (*PIP, "wheel", "-v", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder, source)
    done = run(*command, folder=folder.parent, **environment)
    (wheel,) = folder.glob("*.whl")
    return wheel, done.stdout + done.stderr


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A clone, as far as packaging reads it, with nothing compiled."""
    folder = tmp_path_factory.mktemp("tree")
    for pattern in OF_PACKAGING:
        for path in ROOT.glob(pattern):
            shutil.copy(path, folder)
    shutil.copytree(LIBRARY, folder / "models", ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.part"))
    return folder


@pytest.fixture(scope="module")
def sdist(tree, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    run(sys.executable, "-c", code, folder=tree)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory) -> Path:
    return pip_wheel(sdist, tmp_path_factory.mktemp("wheel"))[0]


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A folder that holds the installed package and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    run(*PIP, "install", "--no-deps", "--no-index", "--target", folder, wheel, folder=folder)
    return folder


def names_of(wheel: Path) -> set[str]:
    return {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}


def expected_names() -> set[str]:
    files = [*LIBRARY.rglob("*.py"), LIBRARY / "py.typed", *LIBRARY.glob("get_llama2/*.sh")]
    files += LIBRARY.glob("get_llama2/*.jinja")
    return {f"lm_infinite/{path.relative_to(LIBRARY)}" for path in files}


def metadata_of(wheel: Path):
    archive = ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(archive.read(name).decode())


def requirement_lines(name: str) -> dict[str, Requirement]:
    lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
    return {Requirement(line).name: Requirement(line) for line in lines}


class TestWheel:
    def test_it_is_the_folder_models_and_nothing_else(self, wheel):
        assert names_of(wheel) - {PASS} == expected_names()

    @pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
    def test_the_compiled_pass_is_inside_for_this_platform_and_any_python(self, wheel):
        assert PASS in names_of(wheel)
        assert re.fullmatch(r"lm_infinite-[\d.]+-py3-none-(?!any)\w+\.whl", wheel.name)

    def test_without_a_compiler_one_line_says_so_and_all_else_is_there(self, tree, tmp_path):
        wheel, printed = pip_wheel(tree, tmp_path, CXX="no-such-compiler")
        assert names_of(wheel) == expected_names()
        said = [line.strip() for line in printed.splitlines() if "no-such-compiler" in line]
        assert said == [
            "libattention.so is left out: it takes a C++ compiler with OpenMP (CXX=no-such-compiler); torch does "
            "the same more slowly"
        ]

    def test_sdist_has_what_building_takes_and_nothing_of_the_harness(self, sdist):
        names = {name.partition("/")[2] for name in tarfile.open(sdist).getnames()}
        compiled = ("window_weights.cpp", "decode_step.cpp", "rows.cpp", "numbers.h", "compiler.flags")
        assert {"setup.py", "requirements.txt", *(f"models/attention/native/{name}" for name in compiled)} <= names
        assert {name.split("/")[0] for name in names}.isdisjoint({"tests", "utils", "data", "scripts", "sample"})

    def test_it_needs_the_library_s_requirements_alone_and_the_rest_are_extras(self, wheel):
        found, listed = metadata_of(wheel), requirement_lines("requirements.txt")
        needs = [Requirement(line) for line in found.get_all("Requires-Dist")]
        plain = {need.name: need.specifier for need in needs if need.marker is None}
        assert plain == {name: listed[name].specifier for name in NEEDS}
        extras = {extra: _needs_of(extra, needs) for extra in found.get_all("Provides-Extra")}
        assert extras.keys() == {"gguf", "harness", "llama2", "lm-eval", "test"}
        assert extras["harness"] == listed.keys() - plain.keys()
        assert extras["test"] == requirement_lines("requirements-test.txt").keys()
        assert extras["gguf"] | extras["llama2"] == OPTIONAL and extras["lm-eval"] == {"lm-eval"}

    def test_version_is_that_of_the_library(self, wheel):
        assert metadata_of(wheel)["Version"] == models.__version__


def _needs_of(extra: str, needs: list[Requirement]) -> set[str]:
    return {need.name for need in needs if need.marker is not None and need.marker.evaluate({"extra": extra})}


class TestInstalled:
    def test_the_drop_in_runs_from_an_empty_folder(self, installed, tmp_path):
        done = run(sys.executable, "-c", DROP_IN, folder=tmp_path, PYTHONPATH=str(installed))
        found = json.loads(done.stdout)
        assert found.pop("difference") < 1e-5
        assert found.pop("built") or built_pass() is None  # where the clone's is not taken, none is
        assert found == {
            "file": str(installed / "lm_infinite/__init__.py"),
            "version": models.__version__,
            "cheap": True,
            "written": [1, 108],
            "slots": 16,
            "reverted": True,
            "others": [],
            "clone": False,
        }

    def test_it_is_the_clone_s_code(self, installed):
        for name in expected_names():
            path = installed / name
            assert path.read_bytes() == (LIBRARY / path.relative_to(installed / "lm_infinite")).read_bytes()

    def test_a_command_of_it_answers(self, installed, tmp_path):
        command = (sys.executable, "-m", "lm_infinite.get_llama2.convert_llama_weights_to_hf", "--help")
        assert "--input_dir" in run(*command, folder=tmp_path, PYTHONPATH=str(installed)).stdout


class TestNames:
    def test_each_is_there_and_known_to_type_checkers(self):
        tree = ast.parse((LIBRARY / "__init__.py").read_text(encoding="utf-8"))
        (block,) = (node for node in tree.body if isinstance(node, ast.If))
        typed = {alias.name: node.module for node in block.body for alias in node.names}
        assert typed == models._HOMES and sorted(typed) == models.__all__ and typed.keys() <= set(dir(models))
        assert all(getattr(models, name).__name__ == name for name in models.__all__)

    def test_another_name_is_an_ordinary_error(self):
        with pytest.raises(AttributeError, match="module 'models' has no attribute 'convert_bert_model'"):
            models.convert_bert_model  # noqa: B018

    def test_what_files_import_is_needed_by_the_package_or_by_transformers(self):
        """Packages imported within a function may be optional ones."""
        always, owners = {*NEEDS, *_without_extras("transformers")}, packages_distributions()
        for path in LIBRARY.rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            assert _packages(tree.body, owners) <= always, path
            assert _packages(ast.walk(tree), owners) <= always | OPTIONAL, path


def _without_extras(package: str) -> set[str]:
    needs = [Requirement(line) for line in requires(package)]
    return {need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})}


def _packages(nodes: Iterable[ast.AST], owners: Mapping[str, list[str]]) -> set[str]:
    """What the import statements among these nodes are installed from, without Python's own and the library's."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.split(".")[0])
    return {owners.get(name, [name])[0].lower() for name in names - sys.stdlib_module_names}
