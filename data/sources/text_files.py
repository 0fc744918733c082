"""Files that are one document each."""

from pathlib import Path

from data.sources.compression import decompressed
from data.sources.source import MOST_DOCUMENT_BYTES
from data.sources.text import decode, reading
from utils.errors import UserError


class TextFiles:
    """A Source: one document a file, UTF-8, plain or compressed."""

    def __init__(self, files: list[tuple[str, Path]], most_bytes: int = MOST_DOCUMENT_BYTES):
        """files: (id, path) of each document, in order. most_bytes: of one."""
        self._files, self._most_bytes = files, most_bytes

    def __len__(self) -> int:
        return len(self._files)

    def read(self, place: int) -> tuple[str, str]:
        """(id, text). Raises UserError."""
        identifier, path = self._files[place]
        with reading(path), open(path, "rb") as file, decompressed(path, file) as content:
            raw = content.read(self._most_bytes + 1)
        if len(raw) > self._most_bytes:
            raise UserError(
                f"{path} has more than {self._most_bytes:,} bytes: take it out, or allow more with --max_document_bytes"
            )
        return identifier, decode(raw, str(path))
