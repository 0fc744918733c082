"""The set-up itself: what `make` installs, when it installs it again, and the sample model it prepares."""

import ast
import os
import re
import shutil
import subprocess
import sys
import time
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.loading.sample import SAMPLE_DIR
from scripts import prepare_sample
from tests.tiny_gguf import write_tiny_gguf
from tests.tiny_models import tiny_input_ids, tiny_model, tiny_tokenizer

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("benchmarks", "data", "models", "scripts", "utils", "visualization")

# Stands for every python that the Makefile calls: makes empty environments, logs what pip is asked for.
FAKE_PYTHON = """#!/bin/bash
case "$*" in
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m pip "*) echo "${@: -1}" >> "$LOG"; echo "$PIP_CONSTRAINT $PIP_BUILD_CONSTRAINT" >> "$LOG.held"
                [[ -z "${FAIL:-}" || "$*" != *"$FAIL"* ]] ;;
    *prepare_sample*) echo sample >> "$LOG"; mkdir -p sample/SmolLM2-135M-Instruct
                      touch sample/SmolLM2-135M-Instruct/config.json ;;
    *) echo "$*" >> "$LOG" ;;
esac
"""


FAKE_COMPILER = """#!/bin/bash
[[ -z "${FAIL:-}" || "$0" != *"$FAIL"* ]] && cat models/attention/native/*.cpp > "${@: -1}"
"""

OF_EXTRAS = {"lm-eval", "llama-cpp", "llama-cpp-python"}
"""Imported behind one command, which says what to install; by the name of the module where it is not installed."""

KERNEL = "models/attention/native/libattention.so"
OF_CUDA = ("nvidia", "cuda", "triton")
"""What a CUDA build of torch brings, in the versions that it names itself."""


SUITE = "-m pytest --numprocesses auto --maxprocesses 4 --dist loadfile"


class FakeCheckout:
    """A copy of the Makefile and what it reads, with a python that installs nothing and a compiler that copies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for path in [ROOT / "Makefile", *ROOT.glob("requirements*")]:
            shutil.copy(path, folder)
        self.source, self.kernel = folder / "models/attention/native/window_weights.cpp", folder / KERNEL
        self.source.parent.mkdir(parents=True)
        self.source.write_text("first")
        for name in ("decode_step.cpp", "rows.cpp", "numbers.h", "compiler.flags"):
            self.source.with_name(name).touch()
        self.python, self.compiler = folder / "python3", folder / "c++"
        for path, text in ((self.python, FAKE_PYTHON), (self.compiler, FAKE_COMPILER)):
            path.write_text(text)
            path.chmod(0o755)

    def make(self, target: str, fail: str = "") -> tuple[bool, list[str]]:
        """Whether make succeeded, and what was installed or run, in order."""
        log = self.folder / "log"
        log.write_text("")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "PYTEST"))}
        environment |= {"LOG": str(log), "FAIL": fail}
        command = ["make", "--silent", target, f"PYTHON={self.python}", f"CXX={self.compiler}"]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True)
        return done.returncode == 0, log.read_text().splitlines()


@pytest.fixture
def checkout(tmp_path: Path) -> FakeCheckout:
    return FakeCheckout(tmp_path)


class TestMake:
    def test_one_command_does_all_and_a_second_reuses_it(self, checkout):
        parts = ["requirements.txt", "requirements-test.txt", "requirements-sample.txt", "sample"]
        assert checkout.make("test") == (True, [*parts, SUITE])
        assert checkout.make("test") == (True, [SUITE])
        assert checkout.make("sample") == (True, [])

    def test_failed_step_is_done_again(self, checkout):
        assert checkout.make("setup", fail="requirements.txt") == (False, ["requirements.txt"])
        assert checkout.make("setup") == (True, ["requirements.txt"])
        assert checkout.make("setup") == (True, [])

    def test_changed_requirements_are_installed_and_the_sample_is_kept(self, checkout):
        checkout.make("sample")
        (checkout.folder / "requirements-sample.txt").touch()
        assert checkout.make("sample") == (True, ["requirements-sample.txt"])
        assert checkout.make("sample") == (True, [])

    def test_a_renewed_lock_is_installed(self, checkout):
        checkout.make("setup")
        os.utime(checkout.folder / "requirements.lock", (time.time() + 10,) * 2)
        assert checkout.make("setup") == (True, ["requirements.txt"])

    def test_pip_is_held_to_the_lock_also_where_a_package_is_built(self, checkout):
        """By a path without the folder's: pip splits at blanks."""
        checkout.make("test")
        assert (checkout.folder / "log.held").read_text() == 3 * "requirements.lock requirements.lock\n"

    def test_nothing_else_is_held_to_it(self, checkout):
        """A pip that a test runs in another folder would not find the lock."""
        printed = subprocess.run(
            ["make", "--eval=show:\n\t@env", "show"], cwd=checkout.folder, capture_output=True, text=True, check=True
        ).stdout
        assert "requirements.lock" not in printed

    def test_what_is_compiled_follows_its_source_and_installs_nothing_again(self, checkout):
        assert checkout.make("setup") == (True, ["requirements.txt"])
        assert checkout.kernel.read_text() == "first"
        checkout.source.write_text("second")
        os.utime(checkout.source, (time.time() + 10,) * 2)
        assert checkout.make("setup") == (True, [])
        assert checkout.kernel.read_text() == "second"

    def test_without_a_compiler_all_else_is_set_up_and_nothing_outdated_is_left(self, checkout):
        checkout.kernel.write_text("outdated")
        os.utime(checkout.source, (time.time() + 10,) * 2)
        assert checkout.make("setup", fail="c++") == (True, ["requirements.txt"])
        assert not list(checkout.kernel.parent.glob("*.so*"))
        assert checkout.make("setup", fail="c++") == (True, [])
        assert checkout.make("kernel", fail="c++") == (False, [])
        assert checkout.make("kernel") == (True, [])

    def test_help_lists_every_target(self, checkout):
        listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert re.findall(r"^  make ([\w-]+)", listed, re.MULTILINE) == phony[1].split()


class TestRequirements:
    def test_every_import_is_listed(self):
        """The sources import what is in requirements.txt, or an extra; the tests that of requirements-test.txt, too."""
        users = _listed("requirements.txt")
        assert _imported(SOURCES) <= users | OF_EXTRAS
        assert _imported(("tests",)) <= users | _listed("requirements-test.txt")

    @pytest.mark.parametrize("name", ["requirements.txt", "requirements-test.txt"])
    def test_every_requirement_has_an_upper_bound(self, name):
        lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
        assert all(re.fullmatch(r"[\w-]+(==[\d.]+|>=[\d.]+,<[\d.]+)", line) for line in lines)

    def test_the_lock_holds_an_exact_version_of_each_within_its_range(self):
        locked = _locked()
        assert {"torch", "transformers", "setuptools", "wheel"} <= locked.keys() and len(locked) > 80
        for name in ("requirements.txt", "requirements-test.txt"):
            for line in (ROOT / name).read_text().splitlines():
                if not line.startswith("#"):
                    requirement = Requirement(line)
                    assert locked[_plain(requirement.name)] in requirement.specifier

    def test_the_lock_is_whole(self):
        """What the locked packages need, in the versions that are installed here, is locked too."""
        locked = _locked()
        for name in locked.keys() - {"wheel", "setuptools"}:
            for line in distribution(name).requires or ():
                requirement = Requirement(line)
                if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                    assert _plain(requirement.name) in locked or requirement.name.startswith(OF_CUDA), line


def _locked() -> dict[str, str]:
    """Version by name."""
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    return {_plain(name): version for name, version in (line.split("==") for line in lines)}


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def _listed(name: str) -> set[str]:
    """The names of the packages in a requirements file."""
    return set(re.findall(r"^([\w-]+)", (ROOT / name).read_text(), re.MULTILINE))


OWN_ENVIRONMENT = ROOT / "tests" / "sm90"
"""These tests have packages of their own, which `make test-sm90` installs."""


def _imported(folders: tuple[str, ...]) -> set[str]:
    """The names of the packages that the Python files in these folders import, without Python's own."""
    modules = {
        module.split(".")[0]
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if path.parent != OWN_ENVIRONMENT
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for module in _modules(node)
    }
    owners = packages_distributions()
    others = modules - sys.stdlib_module_names - {path.name for path in ROOT.iterdir()}
    return {name.lower().replace("_", "-") for module in others for name in owners.get(module, [module])[:1]}


def _modules(node: ast.AST) -> list[str]:
    """The modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []


class TestPrepareSample:
    @pytest.fixture(autouse=True)
    def tiny_wheel(self, tmp_path, monkeypatch):
        """A tiny GGUF file stands for the one of the wheel."""
        self.folder = tmp_path / "sample" / "Tiny-0.1M"
        gguf = tmp_path / "tiny.gguf"
        write_tiny_gguf(tiny_model("llama"), gguf)
        monkeypatch.setattr(prepare_sample, "SAMPLE_DIR", self.folder)
        monkeypatch.setattr(prepare_sample, "sample_gguf", lambda: gguf)

    def test_folder_holds_the_model_and_its_tokenizer(self):
        prepare_sample.main()
        assert (self.folder / "model.safetensors").is_file()
        model = AutoModelForCausalLM.from_pretrained(self.folder)
        ids = tiny_input_ids(batch=1, length=20)
        torch.testing.assert_close(model(ids).logits, tiny_model("llama")(ids).logits)
        assert model.dtype == torch.float32
        assert not hasattr(model.config, "quantization_config")
        ids = AutoTokenizer.from_pretrained(self.folder)("the theme and Ü")["input_ids"]
        assert ids == tiny_tokenizer()("the theme and Ü")["input_ids"]

    def test_second_call_leaves_it_alone(self, monkeypatch):
        prepare_sample.main()
        monkeypatch.setattr(prepare_sample, "convert_gguf", None)
        prepare_sample.main()

    def test_interrupted_call_leaves_nothing_that_looks_whole(self, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(AutoTokenizer, "from_pretrained", _interrupt)
            with pytest.raises(KeyboardInterrupt):
                prepare_sample.main()
        assert not self.folder.exists()
        prepare_sample.main()
        assert [path.name for path in self.folder.parent.iterdir() if path.is_dir()] == [self.folder.name]


def _interrupt(**unused) -> None:
    raise KeyboardInterrupt


@pytest.mark.skipif(not SAMPLE_DIR.exists(), reason="the sample is not prepared: make sample")
class TestPreparedSample:
    def test_configuration(self):
        config = AutoModelForCausalLM.from_pretrained(SAMPLE_DIR, device_map="meta").config
        assert not hasattr(config, "quantization_config")
        assert config.rope_parameters["rope_theta"] == 100_000
        assert config.max_position_embeddings == 8192
        assert config.tie_word_embeddings
        assert (config.bos_token_id, config.eos_token_id) == (1, 2)
        assert config.dtype == torch.float32

    def test_tokenizer(self):
        tokenizer = AutoTokenizer.from_pretrained(SAMPLE_DIR)
        assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
        ids = tokenizer("To be, or not to be: 1600!\n\n")["input_ids"]
        assert tokenizer.decode(ids) == "To be, or not to be: 1600!\n\n"
        chat = tokenizer.apply_chat_template([{"role": "user", "content": "Who is there?"}], tokenize=False)
        assert "<|im_start|>user\nWho is there?<|im_end|>" in chat
