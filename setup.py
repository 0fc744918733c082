"""The parts of the package `lm_infinite` that pyproject.toml has no words for: needs, and what is compiled."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
LIBRARY = ("torch", "transformers", "einops")
"""What `import lm_infinite` needs of requirements.txt, the one list; the rest is what the harness needs."""
EXTRAS = {"gguf": ("gguf",), "llama2": ("sentencepiece", "protobuf")}
"""What single functions of the library need besides: reading .gguf files, and Llama 2 as Meta ships it."""
LM_EVAL = "lm-eval"
"""What one command of the harness needs besides, and the tests of it."""
NATIVE = "models/attention/native"
SOURCES = [f"{NATIVE}/{name}.cpp" for name in ("window_weights", "decode_step", "rows")]
FLAGS = f"{NATIVE}/compiler.flags"


class BuildPasses(build_ext):
    """Compiles as the Makefile does, into the package; where that fails, the package does without."""

    def get_ext_filename(self, name: str) -> str:
        """Without the tag of a Python: ctypes loads it into any."""
        return os.path.join(*name.split(".")) + ".so"

    def build_extension(self, extension: Extension) -> None:
        library = Path(self.get_ext_fullpath(extension.name))
        library.parent.mkdir(parents=True, exist_ok=True)
        compiler = shlex.split(os.environ.get("CXX", "c++"))
        try:
            subprocess.run([*compiler, f"@{FLAGS}", *SOURCES, "-o", library], cwd=ROOT, check=True)
        except (OSError, subprocess.CalledProcessError):
            library.unlink(missing_ok=True)
            print(
                f"{library.name} is left out: it takes a C++ compiler with OpenMP (CXX={shlex.join(compiler)}); torch "
                "does the same more slowly",
                file=sys.stderr,
            )


class AnyPython(bdist_wheel):
    """A wheel for this platform and any Python: what is compiled does not use Python's interface."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


def requirements(name: str) -> dict[str, str]:
    """The lines of a list of requirements, by package."""
    lines = [line for line in (ROOT / name).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return {re.match(r"[\w-]+", line)[0]: line for line in lines}


needs, tests = requirements("requirements.txt"), requirements("requirements-test.txt")
setup(
    packages=["lm_infinite", *(f"lm_infinite.{name}" for name in find_packages("models"))],
    install_requires=[needs[name] for name in LIBRARY],
    extras_require={
        **{extra: [needs[name] for name in names] for extra, names in EXTRAS.items()},
        "harness": [line for name, line in needs.items() if name not in LIBRARY],
        LM_EVAL: [tests[LM_EVAL]],
        "test": list(tests.values()),
    },
    ext_modules=[
        Extension(
            "lm_infinite.attention.native.libattention",
            SOURCES,
            depends=[FLAGS, f"{NATIVE}/numbers.h"],
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildPasses, "bdist_wheel": AnyPython},
)
