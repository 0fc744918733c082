"""Files that are one document each."""

from pathlib import Path

from data.sources.compression import decompressed
from data.sources.text import decode, reading


class TextFiles:
    """A Source: one document a file, UTF-8, plain or compressed."""

    def __init__(self, files: list[tuple[str, Path]]):
        """files: (id, path) of each document, in order."""
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def read(self, place: int) -> tuple[str, str]:
        """(id, text). Raises UserError."""
        identifier, path = self._files[place]
        with reading(path), open(path, "rb") as file, decompressed(path, file) as content:
            raw = content.read()
        return identifier, decode(raw, str(path))
