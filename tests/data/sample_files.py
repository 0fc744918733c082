"""Small data files, written as a user's would be."""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import zstandard


def write_jsonl(path: Path, values: Iterable[Any]) -> Path:
    """One JSON value a line; compressed if `path` ends in .zst."""
    return write_bytes(path, "".join(json.dumps(value) + "\n" for value in values).encode())


def write_bytes(path: Path, raw: bytes) -> Path:
    """The bytes as they are, or compressed if `path` ends in .zst; folders are made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(zstandard.ZstdCompressor().compress(raw) if path.suffix == ".zst" else raw)
    return path


def pile_lines(documents: Iterable[tuple[str, str]]) -> list[dict]:
    """The Pile's own line objects for (group, text) pairs."""
    return [{"text": text, "meta": {"pile_set_name": group}} for group, text in documents]


def long_text(number: int, length: int) -> str:
    """Random hexadecimal digits, the same for the same number: text that compresses no better than prose."""
    return random.Random(number).randbytes(length // 2).hex()


def texts_of(corpus: Iterable[Any]) -> list[str]:
    """The texts of a corpus, in order."""
    return [document.text for document in corpus]
