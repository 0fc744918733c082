"""Files of one JSON document a line, plain or compressed, and random access to their lines."""

import tempfile
from array import array
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import count
from pathlib import Path

from data.sources.compression import decompressed, is_compressed
from data.sources.source import MOST_DOCUMENT_BYTES
from data.sources.text import explained, parse_json, pick_text, reading
from utils.errors import UserError


def read_lines(
    path: Path, on_progress: Callable[[int], object] | None = None, most: int = MOST_DOCUMENT_BYTES
) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, line with its end) of a file; of a name in .gz, .bz2, .xz or .zst, decompressed.

    on_progress: called at each line with the bytes of the file read so far, compressed ones if it is.
    Raises UserError if the file cannot be read, or a line has more than `most` bytes.
    """
    with reading(path), open(path, "rb") as file, decompressed(path, file) as lines:
        for number in count(1):
            line = lines.readline(most + 1)
            if not line:
                return
            if len(line) > most:
                raise UserError(
                    f"{path} line {number} has more than {most:,} bytes: take it out, or let a script that reads it "
                    "have more with --max_document_bytes"
                )
            if on_progress:
                on_progress(file.tell())
            yield number, line


class LineFile:
    """A Source: one document a line, a JSON string or an object with a text field; blank lines are skipped.

    One scan notes where each line lies (24 bytes a document), and stops at the first `needed` documents.
    A compressed file cannot be read from the middle: the scan decompresses what it passes into a temporary
    file without a name, which needs that much room (TMPDIR says where) and vanishes with the process.
    """

    def __init__(
        self, path: Path, label: str, text_field: str, needed: int | None = None, most_bytes: int = MOST_DOCUMENT_BYTES
    ):
        """label: what document ids begin with. Raises UserError if the file cannot be read, or has longer lines."""
        self._path, self._most_bytes = path, most_bytes
        self._label = label
        self._text_field = text_field
        self._starts, self._ends, self._numbers = array("q"), array("q"), array("q")
        with explained(f"{path} cannot be decompressed into a temporary file (TMPDIR says where)"):
            self._copy = tempfile.TemporaryFile() if is_compressed(path) else None
            self._scan(needed)

    def _scan(self, needed: int | None) -> None:
        start = 0
        for number, line in read_lines(self._path, most=self._most_bytes):
            end = start + len(line)
            if not line.isspace():
                self._starts.append(start)
                self._ends.append(end)
                self._numbers.append(number)
            if self._copy:
                self._copy.write(line)
            start = end
            if len(self) == needed:
                break
        if self._copy:
            self._copy.flush()

    def __len__(self) -> int:
        return len(self._starts)

    def read(self, place: int) -> tuple[str, str]:
        """(id, text); the id is "LABEL:LINE". Raises UserError."""
        number = self._numbers[place]
        where = f"{self._path} line {number}"
        value = parse_json(self._line(place), where)
        return f"{self._label}:{number}", pick_text(value, self._text_field, where)

    def _line(self, place: int) -> bytes:
        start, end = self._starts[place], self._ends[place]
        # A plain file is opened for each document: a folder may hold more files than can be open at once.
        with reading(self._path), nullcontext(self._copy) if self._copy else open(self._path, "rb") as file:
            file.seek(start)
            return file.read(end - start)
