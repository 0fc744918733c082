"""The NLL of every token of the documents that a trial has scored so far: raw float32, appended, gone at its end."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from utils.files import writing_to
from utils.trials.files import DOCUMENT_NLLS

DTYPE = np.dtype("<f4")
START, DIGEST = "nll_start", "nll_sha256"
"""Fields of a document's line: where its NLL begins in the file, in numbers from 0, and the SHA-256 of its bytes."""


class DocumentNllFile:
    """checkpoint-nll.f32 in a log dir."""

    def __init__(self, log_dir: Path) -> None:
        self.log_dir, self.path = log_dir, log_dir / DOCUMENT_NLLS

    def append(self, nlls: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """Append the NLL, float32 [n], of documents, and have it on disk; returns the fields that find each again."""
        with writing_to(self.log_dir), open(self.path, "ab") as file:
            place, fields = file.tell() // DTYPE.itemsize, []
            for nll in nlls:
                content = nll.astype(DTYPE).tobytes()
                file.write(content)
                fields.append({START: place, DIGEST: hashlib.sha256(content).hexdigest()})
                place += len(nll)
            file.flush()
            os.fsync(file.fileno())
        return fields

    def read(self, line: Mapping[str, Any]) -> np.ndarray | None:
        """The NLL of a document, by its line; None where it is not as it was written."""
        with writing_to(self.log_dir), open(self.path, "rb") as file:
            file.seek(line[START] * DTYPE.itemsize)
            content = file.read(line["scored"] * DTYPE.itemsize)
        return np.frombuffer(content, DTYPE) if hashlib.sha256(content).hexdigest() == line[DIGEST] else None

    def cut(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Cut off what lies behind the documents of these lines: a kill came before theirs."""
        if self.path.exists():
            end = max((line[START] + line["scored"] for line in lines), default=0)
            with writing_to(self.log_dir):
                os.truncate(self.path, end * DTYPE.itemsize)

    def remove(self) -> None:
        """A finished trial needs none."""
        with writing_to(self.log_dir):
            self.path.unlink(missing_ok=True)
