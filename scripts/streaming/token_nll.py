"""The NLL of every token of a stream, on disk: raw float32, appended, readable with numpy while the run goes on."""

import hashlib
import os
from pathlib import Path

import numpy as np

from utils.errors import UserError
from utils.files import writing_to
from utils.trials.files import token_nll_name
from utils.trials.seals import ADVICE

DTYPE = np.dtype("<f4")
PIECE = 1 << 20
"""Bytes that are read at once."""


def digest_of_beginning(path: Path, tokens: int) -> "hashlib._Hash":
    """The running SHA-256 of the first `tokens` entries. Raises OSError."""
    running, left = hashlib.sha256(), tokens * DTYPE.itemsize
    with open(path, "rb") as file:
        while left and (piece := file.read(min(left, PIECE))):
            running.update(piece)
            left -= len(piece)
    return running


class TokenNllFile:
    """token_nll_INDEX.f32 in a log dir: entry i is the NLL, in nats, of the token at position i + 1.

    tokens: how many it holds.
    """

    def __init__(self, log_dir: Path, index: int, tokens: int, digest: str | None = None) -> None:
        """Go on after `tokens` entries; what lies beyond them was never checkpointed and is cut off.

        digest: the SHA-256 that they must have, None where it is not known. Raises UserError where the file holds
        fewer or others, or cannot be written.
        """
        self.log_dir, self.tokens = log_dir, tokens
        self.path = log_dir / token_nll_name(index)
        with writing_to(log_dir):
            self.path.touch()
            held = self.path.stat().st_size // DTYPE.itemsize
            if held < tokens:
                raise UserError(
                    f"{self.path} holds {held} of the {tokens} tokens that its checkpoint counts: put it back, or give "
                    "--repair or --overwrite"
                )
            self._running = digest_of_beginning(self.path, tokens)
            if digest not in (None, self.digest):
                raise UserError(f"{self.path} is not as it was written, within its first {tokens} tokens: {ADVICE}")
            os.truncate(self.path, tokens * DTYPE.itemsize)

    @property
    def digest(self) -> str:
        """SHA-256 of all that it holds."""
        return self._running.hexdigest()

    def append(self, nll: np.ndarray) -> None:
        """Append the NLL, float [n], of the next tokens."""
        content = nll.astype(DTYPE).tobytes()
        with writing_to(self.log_dir), open(self.path, "ab") as file:
            file.write(content)
        self._running.update(content)
        self.tokens += len(nll)

    def sync(self) -> None:
        """Have all of it on disk."""
        with writing_to(self.log_dir), open(self.path, "ab") as file:
            os.fsync(file.fileno())
