"""A file of one JSON object a line, plain or within a .zip, and random access to its lines."""

import tempfile
import zipfile
import zlib
from array import array
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from data.sources.text import explained, parse_json, reading
from utils.errors import UserError


class JsonLines:
    """The values of a file's lines; blank lines are skipped. One scan notes where each line lies.

    A member of a .zip is copied into a temporary file without a name (TMPDIR says where), gone with the process.
    """

    def __init__(self, path: Path, member: str | None = None) -> None:
        """member: the name of the file within `path`, a .zip. Raises UserError if it cannot be read."""
        self._path = path
        self._label = str(path) if member is None else f"{path}, {member},"
        self._copy = None if member is None else _unzipped(path, member)
        self._starts, self._numbers = array("q"), array("q")
        start = 0
        with self._open() as file:
            for number, line in enumerate(file, start=1):
                if not line.isspace():
                    self._starts.append(start)
                    self._numbers.append(number)
                start += len(line)

    def __len__(self) -> int:
        return len(self._starts)

    def read(self, place: int) -> tuple[str, Any]:
        """(where it is, for errors; the value) of line `place`, blank ones not counted. Raises UserError."""
        where = f"{self._label} line {self._numbers[place]}"
        with self._open() as file:
            file.seek(self._starts[place])
            line = file.readline()
        return where, parse_json(line, where)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return (self.read(place) for place in range(len(self)))

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        with reading(self._path), ExitStack() as stack:
            file = self._copy or stack.enter_context(open(self._path, "rb"))
            file.seek(0)
            yield file


def _unzipped(path: Path, member: str) -> IO[bytes]:
    """A temporary file with what `member` holds. Raises UserError."""
    with explained(f"{path} cannot be unpacked into a temporary file (TMPDIR says where)"):
        copy = tempfile.TemporaryFile()
        try:
            with zipfile.ZipFile(path) as archive, archive.open(member) as file:
                while block := file.read(1 << 20):
                    copy.write(block)
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError) as error:
            raise UserError(f"{path} has no readable file {member}: {error}") from None
        return copy
