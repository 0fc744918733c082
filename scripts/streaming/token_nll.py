"""The NLL of every token of a stream, on disk: raw float32, appended, readable with numpy while the run goes on."""

import os
from pathlib import Path

import numpy as np

from utils.errors import UserError
from utils.files import writing_to
from utils.trials.files import token_nll_name

DTYPE = np.dtype("<f4")


class TokenNllFile:
    """token_nll_INDEX.f32 in a log dir: entry i is the NLL, in nats, of the token at position i + 1.

    tokens: how many it holds.
    """

    def __init__(self, log_dir: Path, index: int, tokens: int) -> None:
        """Go on after `tokens` entries; what lies beyond them was never checkpointed and is cut off.

        Raises UserError where the file holds fewer, or cannot be written.
        """
        self.log_dir, self.tokens = log_dir, tokens
        self.path = log_dir / token_nll_name(index)
        with writing_to(log_dir):
            self.path.touch()
            held = self.path.stat().st_size // DTYPE.itemsize
            if held < tokens:
                raise UserError(
                    f"{self.path} holds {held} of the {tokens} tokens that its checkpoint counts: put it back, or "
                    "start afresh with --overwrite"
                )
            os.truncate(self.path, tokens * DTYPE.itemsize)

    def append(self, nll: np.ndarray) -> None:
        """Append the NLL, float [n], of the next tokens."""
        with writing_to(self.log_dir), open(self.path, "ab") as file:
            file.write(nll.astype(DTYPE).tobytes())
        self.tokens += len(nll)

    def sync(self) -> None:
        """Have all of it on disk."""
        with writing_to(self.log_dir), open(self.path, "ab") as file:
            os.fsync(file.fileno())
