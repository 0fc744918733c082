"""The ids of a data set's documents, kept on disk: they are tokenized once, whichever run reads them again.

A folder holds those of one data set by one tokenizer, in plain formats:

    about.json        the tokenizer, the data set, and the type of the ids
    ids.bin           the ids, raw and little-endian, document after document
    documents.jsonl   a line per document: its place in the data set, where its ids begin (counted in ids) and how many
                      they are, the SHA-256 of its text, and that of all this with the ids

Documents are appended as they are tokenized, by any number of processes at once, and count once their line is whole.
Nothing is read that was made from another text or tokenizer, or that is not as it was written: a digest says so each
time. The files only grow, and may be removed at any time.
"""

import fcntl
import hashlib
import json
import os
import re
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from data.document import Document
from utils.files import json_text, replace_json

ABOUT, IDS, DOCUMENTS, LOCK = "about.json", "ids.bin", "documents.jsonl", "lock"
ABSENT = -1
LOCK_SECONDS, LOCK_POLL_SECONDS = 10.0, 0.005
Json = dict[str, Any]


def default_folder() -> Path:
    """Where ids are kept unless the user says otherwise: in the user's cache."""
    return Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")) / "lm-infinite" / "ids"


class TokenCache:
    """The folder of one data set and tokenizer. What cannot be read or written is said, once, and never raised.

    Memory: 8 bytes per document.
    """

    def __init__(self, root: Path, about: Json, dtype: np.dtype, documents: int, say: Callable[[str], None]) -> None:
        """root: the folder of all. about: what the ids are made from, JSON. dtype: of an id, little-endian.

        documents: how many the data set has, as far as they will be read. say: shows a line.
        """
        self.about, self.dtype = about | {"ids": dtype.str}, dtype
        self.key = hashlib.sha256(json.dumps(self.about, sort_keys=True).encode()).hexdigest()
        self.folder = root / f"{_readable(about)}-{self.key[:16]}"
        self._say, self._said = say, set()
        self._lines = array("q", [ABSENT]) * documents  # where the newest line of each document begins
        self._read_to = 0
        self._keeps = True  # until a failure to write

    def get(self, document: Document) -> np.ndarray | None:
        """The ids of a document, memory-mapped; None where they are not there, or not those of its text."""
        if self._lines[document.index] == ABSENT:
            self._read_new_lines()
        if self._lines[document.index] == ABSENT:
            return None
        try:
            entry = self._entry(document.index)
            if entry["text"] != _digest(document):
                line = f"the text of {document.id!r} has changed since it was tokenized: what has changed is made again"
                return self._forget(document.index, "changed", line)
            ids = self._map(entry)
            if entry["sha256"] == self._seal(document.index, entry, ids):
                return ids
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            pass  # as good as a digest that differs
        line = f"{self.folder} is damaged at {document.id!r}: what cannot be read is made again"
        return self._forget(document.index, "damaged", line)

    def add(self, document: Document, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """Keep the ids of a document; returns them as an array, kept or not."""
        tokens = np.array(ids, dtype=self.dtype)
        if self._keeps:
            try:
                with self._locked():
                    self._append(document, tokens)
            except OSError as error:
                self._keeps = False
                reason = error.strerror or str(error)
                self._say_once("full", f"ids are not kept in {self.folder} ({reason}): each pass tokenizes its texts")
        return tokens

    def _append(self, document: Document, ids: np.ndarray) -> None:
        """Write ids, then the line that makes them count, unless another process was faster."""
        self._read_new_lines()
        if self._lines[document.index] != ABSENT:
            return
        held = _size(self.folder / IDS)
        entry = {"document": document.index, "start": -(-held // self.dtype.itemsize), "tokens": len(ids)}
        entry["text"] = _digest(document)
        entry["sha256"] = self._seal(document.index, entry, ids)
        padding = bytes(entry["start"] * self.dtype.itemsize - held)  # a kill may have left half an id
        _append_bytes(self.folder / IDS, padding + ids.tobytes())
        if _size(self.folder / DOCUMENTS) > self._read_to:
            os.truncate(self.folder / DOCUMENTS, self._read_to)  # or half a line
        _append_bytes(self.folder / DOCUMENTS, json_text(entry).encode() + b"\n")
        self._read_new_lines()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """A block in which no other process writes here. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / LOCK, "ab") as file:
            _lock(file)  # until it is closed
            if not (self.folder / ABOUT).exists():
                replace_json(self.folder / ABOUT, self.about)
            yield

    def _read_new_lines(self) -> None:
        """Note where the lines of documents begin that were written since the last time; half a line is none."""
        path = self.folder / DOCUMENTS
        if _size(path) == self._read_to:
            return
        with suppress(OSError), open(path, "rb") as lines:
            if _size(path) < self._read_to:  # it was removed, or cut
                self._lines = array("q", [ABSENT]) * len(self._lines)
                self._read_to = 0
            lines.seek(self._read_to)
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                self._note(line)
                self._read_to += len(line)

    def _note(self, line: bytes) -> None:
        try:
            place = int(json.loads(line)["document"])
        except (ValueError, KeyError, TypeError, OverflowError):
            self._say_once("damaged", f"{self.folder / DOCUMENTS} is damaged: what cannot be read is made again")
            return
        if 0 <= place < len(self._lines):  # another run may read more of them
            self._lines[place] = self._read_to

    def _forget(self, place: int, kind: str, line: str) -> None:
        self._lines[place] = ABSENT
        self._say_once(kind, line)

    def _entry(self, place: int) -> Json:
        with open(self.folder / DOCUMENTS, "rb") as lines:
            lines.seek(self._lines[place])
            return json.loads(lines.readline())

    def _map(self, entry: Json) -> np.ndarray:
        if entry["tokens"] == 0:  # nothing cannot be mapped
            return np.empty(0, self.dtype)
        offset = entry["start"] * self.dtype.itemsize
        return np.memmap(self.folder / IDS, self.dtype, "r", offset, (entry["tokens"],))

    def _seal(self, place: int, entry: Json, ids: np.ndarray) -> str:
        """The digest of a document's ids together with all that they depend on."""
        digest = hashlib.sha256(f"{self.key} {place} {entry['start']} {entry['tokens']} {entry['text']} ".encode())
        digest.update(ids)
        return digest.hexdigest()

    def _say_once(self, kind: str, line: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            self._say(line)


def _readable(about: Json) -> str:
    """The name of the data set, as a folder's name may have it."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", Path(str(about["corpus"]["dataset"])).name)[:64].strip(".") or "texts"


def _digest(document: Document) -> str:
    return hashlib.sha256(document.text.encode()).hexdigest()


def _size(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _append_bytes(path: Path, content: bytes) -> None:
    """Append all of it, or on a failure nothing: half of it must not take the room that is lacking."""
    size = _size(path)
    try:
        with open(path, "ab") as file:
            file.write(content)
    except BaseException:
        with suppress(OSError):
            os.truncate(path, size)
        raise


def _lock(file: IO[bytes]) -> None:
    """Take the lock of a file, which others hold for milliseconds. Raises OSError where that takes too long."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
        time.sleep(LOCK_POLL_SECONDS)
