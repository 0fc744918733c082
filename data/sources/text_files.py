"""Files that are one document each."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from data.document import LongText
from data.sources.compression import decompressed, is_compressed
from data.sources.source import MOST_DOCUMENT_BYTES
from data.sources.text import decode, decode_blocks, reading
from utils.errors import UserError

LONG_BYTES = 1 << 24
"""A text of more is never held whole."""
BLOCK_BYTES = 1 << 20


class TextFiles:
    """A Source: one document a file, UTF-8, plain or compressed; a long one is read as far as it is needed."""

    def __init__(self, files: list[tuple[str, Path]], most_bytes: int = MOST_DOCUMENT_BYTES):
        """files: (id, path) of each document, in order. most_bytes: of one."""
        self._files, self._most_bytes = files, most_bytes

    def __len__(self) -> int:
        return len(self._files)

    def read(self, place: int) -> tuple[str, str | LongText]:
        """(id, text). Raises UserError."""
        identifier, path = self._files[place]
        with reading(path), open(path, "rb") as file, decompressed(path, file) as content:
            size = 0 if is_compressed(path) else os.fstat(file.fileno()).st_size
            raw = b"" if size > LONG_BYTES else content.read(min(self._most_bytes, LONG_BYTES) + 1)
        size = max(size, len(raw))
        if size > self._most_bytes:
            raise too_long(path, self._most_bytes)
        if size > LONG_BYTES:
            return identifier, LongTextFile(path, self._most_bytes)
        return identifier, decode(raw, str(path))


class LongTextFile:
    """A LongText: a file, plain or compressed."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        """most_bytes: more, which is seen where that many were read, is refused."""
        self._path, self._most_bytes = path, most_bytes

    def pieces(self) -> Iterator[str]:
        """The text, piece by piece. Raises UserError."""
        with reading(self._path), open(self._path, "rb") as file, decompressed(self._path, file) as content:
            yield from decode_blocks(self._blocks(content), str(self._path))

    def _blocks(self, content: BinaryIO) -> Iterator[bytes]:
        read = 0
        while block := content.read(BLOCK_BYTES):
            read += len(block)
            if read > self._most_bytes:
                raise too_long(self._path, self._most_bytes)
            yield block


def too_long(path: Path, most_bytes: int) -> UserError:
    """The error that a file has more than these bytes."""
    return UserError(f"{path} has more than {most_bytes:,} bytes: take it out, or allow more with --max_document_bytes")
