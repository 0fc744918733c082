"""Sums of the NLL per position, exact in float64, and the metrics that follow from them."""

import math
from typing import Any

import numpy as np

BUCKET_SIZE = 1024
SUMS = {"count": np.int64, "sum": np.float64, "sum_squares": np.float64}
"""Sums of the NLL by name, as every file of arrays has them, and their types."""


class NllStatistics:
    """Streaming sums per position: O(1) per token, nothing is recomputed.

    Position p (0-based, in tokens of its document) is that of the predicted token, so index 0 has count 0.
    Attributes `count` (int64), `sum`, `sum_squares` (float64, nats and nats²): arrays [longest document].
    """

    def __init__(self, arrays: dict[str, np.ndarray] | None = None) -> None:
        arrays = arrays or {name: np.zeros(0) for name in SUMS}
        self.count, self.sum, self.sum_squares = (arrays[name].astype(kind) for name, kind in SUMS.items())

    def add(self, nll: np.ndarray) -> None:
        """Add one document's NLL [n - 1]: of its tokens 1 to n - 1, in nats."""
        length = len(nll) + 1
        if length > len(self.count):
            for name in SUMS:
                array = getattr(self, name)
                setattr(self, name, np.pad(array, (0, length - len(array))))
        nll = nll.astype(np.float64)
        self.count[1:length] += 1
        self.sum[1:length] += nll
        self.sum_squares[1:length] += nll**2

    def arrays(self) -> dict[str, np.ndarray]:
        """The sums with `mean` and (population) `variance` per position; NaN where nothing was scored."""
        with np.errstate(invalid="ignore"):
            mean = self.sum / self.count
            variance = np.maximum(self.sum_squares / self.count - mean**2, 0.0)
        sums = {name: getattr(self, name) for name in SUMS}
        return {**sums, "mean": mean, "variance": variance}

    @property
    def tokens(self) -> int:
        """Tokens scored so far."""
        return int(self.count.sum())

    @property
    def total(self) -> float:
        """The NLL of all of them together, in nats."""
        return float(self.sum.sum())

    def mean(self) -> float | None:
        """Mean NLL per token in nats, None before the first."""
        return self.total / self.tokens if self.tokens else None

    def buckets(self, size: int = BUCKET_SIZE) -> list[dict[str, Any]]:
        """One row per `size` positions: tokens, documents that reach it, mean NLL, perplexity."""
        starts = range(0, len(self.count), size)
        return [self._bucket(start, min(start + size, len(self.count))) for start in starts]

    def _bucket(self, start: int, end: int) -> dict[str, Any]:
        tokens = int(self.count[start:end].sum())
        nll = float(self.sum[start:end].sum()) / tokens if tokens else None
        return {
            "start": start,
            "end": end,
            "tokens": tokens,
            "documents": int(self.count[start:end].max()),
            "nll": nll,
            "perplexity": perplexity(nll),
        }


def perplexity(nll: float | None) -> float | None:
    """exp(nll); None where there is no NLL or its exponential is no float64 (above 709 nats)."""
    if nll is None:
        return None
    try:
        return math.exp(nll)
    except OverflowError:
        return None


def window_sums(values: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Sum of values[..., start:end] for each pair; shapes (..., n), (windows,), (windows,) -> (..., windows)."""
    running = np.cumsum(values, axis=-1)
    running = np.concatenate([np.zeros_like(running[..., :1]), running], axis=-1)
    return running[..., ends] - running[..., starts]
