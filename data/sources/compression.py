"""Files that may be compressed, as gzip, bzip2, xz or Zstandard: their content as bytes, and what it is by its name."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from data.sources.zstd_reader import ZstdReader

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")


def is_compressed(path: Path) -> bool:
    """Whether its name says so, in any case."""
    return path.name.lower().endswith(COMPRESSIONS)


def content_name(name: str) -> str:
    """A file's name in small letters, without the ending of its compression: what it is, decompressed."""
    name = name.lower()
    return next((name.removesuffix(ending) for ending in COMPRESSIONS if name.endswith(ending)), name)


@contextmanager
def decompressed(path: Path, file: BinaryIO) -> Iterator[BinaryIO]:
    """The content of an open file, decompressed on the way as the name of `path` says. Damage is an OSError."""
    openers = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": _open_zstd}
    try:
        yield openers[path.suffix.lower()](file) if is_compressed(path) else file
    except (EOFError, lzma.LZMAError, zlib.error) as error:
        raise OSError(f"bad compressed data: {error}") from error


def _open_zstd(file: BinaryIO) -> BinaryIO:
    return io.BufferedReader(ZstdReader(file), io.DEFAULT_BUFFER_SIZE)
