"""Find the files of what the user typed behind --model or --tokenizer_path."""

import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import SharedError, did_you_mean
from .sample import SAMPLE_DIR, SAMPLE_MODEL

NAMES = (SAMPLE_MODEL, "constant_model")
"""Models that are known by a name alone."""

HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tekken.json",
)
GGUF_MAGIC = b"GGUF"
EXPECTED = "a folder with config.json and weights, a .gguf file or a hub name"


@dataclass(frozen=True)
class Source:
    """The place of a model or tokenizer.

    flag, name: what the user typed, for messages. location: a folder or a hub name.
    gguf_file: the name of a file in that folder, if the model is one.
    """

    flag: str
    name: str
    location: str
    gguf_file: str | None = None

    @property
    def files(self) -> dict[str, str]:
        """The arguments by which every `from_pretrained` of Transformers finds these files."""
        files = {"pretrained_model_name_or_path": self.location}
        return files | {"gguf_file": self.gguf_file} if self.gguf_file else files

    @property
    def folder(self) -> Path | None:
        """The local folder that should hold a model of its own; None for a hub name or a GGUF file."""
        folder = Path(self.location)
        return folder if folder.is_dir() and not self.gguf_file else None

    def error(self, problem: str) -> SharedError:
        return SharedError(f"{self.flag} {self.name}: {problem}{did_you_mean(self.name, NAMES)}")


def find_source(flag: str, name: str) -> Source:
    """The sample, a folder, a GGUF file, else a hub name. Raises UserError if `name` can be none of them."""
    if name == SAMPLE_MODEL:
        return _sample(flag)
    path = Path(name).expanduser()
    if path.is_dir():
        return Source(flag, name, str(path))
    source = Source(flag, name, name)
    if path.is_file() or path.suffix == ".gguf":
        return _gguf_source(source, path)
    if not HUB_NAME.fullmatch(name) or name.startswith("."):
        raise source.error(f"there is no such folder or file; give {EXPECTED}")
    return source


def _sample(flag: str) -> Source:
    source = Source(flag, SAMPLE_MODEL, str(SAMPLE_DIR))
    if not SAMPLE_DIR.is_dir():
        raise source.error("the embedded model is not prepared yet; run `make sample` first")
    return source


def _gguf_source(source: Source, path: Path) -> Source:
    try:
        with path.open("rb") as file:
            magic = file.read(len(GGUF_MAGIC))
    except OSError as error:
        raise source.error(f"the file cannot be read ({error.strerror}); give {EXPECTED}") from error
    if magic != GGUF_MAGIC:
        raise source.error(f"this file is not in the GGUF format; give {EXPECTED}")
    return Source(source.flag, source.name, str(path.parent), path.name)


def check_model_folder(source: Source) -> None:
    """A local folder must have a config.json."""
    if source.folder and not (source.folder / "config.json").is_file():
        raise source.error(f"the folder has no config.json; give {EXPECTED}")


def check_tokenizer_folder(source: Source) -> None:
    """A local folder must have a tokenizer's vocabulary."""
    if source.folder and not any((source.folder / name).is_file() for name in TOKENIZER_FILES):
        raise source.error("the folder has no tokenizer; name one that has with --tokenizer_path")
