"""The forward that a thread runs, as all layers of a converted model see it."""

import threading
from collections.abc import Iterable

from torch import Tensor
from transformers.cache_utils import Cache

from .config import Method
from .positions import PositionEncoding
from .ragged import RealTokens


class Running(threading.local):
    """The forward that a thread runs: its padding, and this rank's part in it where there are others."""

    def __init__(self) -> None:
        self.real, self.stretch = RealTokens(), None

    def __reduce__(self) -> tuple:
        return Running, ()


def begin_tables(encodings: Iterable[PositionEncoding], method: Method, tokens: Tensor, cache: Cache | None) -> None:
    """Have tables of positions make room for those of all layers of a forward. tokens: `[B, n, ...]`, the new ones."""
    columns = tokens.shape[1]
    if method.attends_all and cache is not None:  # keys are encoded in it, from the first one on
        columns += cache.get_seq_length()
    if columns > 1:  # one token takes no table of a range, and a static step must not look for them
        for positions in encodings:
            positions.begin_forward(len(tokens), columns)
