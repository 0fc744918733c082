"""Sums of a stream's NLL in buckets of positions, linear and logarithmic: their number is fixed before it begins."""

from typing import Any

import numpy as np

from utils.trials.nll_by_position import SUMS, perplexity

LINEAR_BUCKETS = 2000  # at most; 48 KB of sums
TABLE_ROWS = 10  # at most
LOG_BUCKETS_PER_DECADE = 24


def round_bucket(length: int, most: int) -> int:
    """The smallest of 1, 2, 5, 10, 20, 50, ... of which at most `most` cover `length` positions."""
    size = 1
    while True:
        for factor in (1, 2, 5):
            if length <= factor * size * most:
                return factor * size
        size *= 10


def linear_edges(length: int) -> np.ndarray:
    """Edges of the linear buckets of positions 0 to length - 1: int64, the last is `length`."""
    return np.append(np.arange(0, length, round_bucket(length, LINEAR_BUCKETS), dtype=np.int64), length)


def log_edges(length: int) -> np.ndarray:
    """Edges of the logarithmic buckets, equal parts of each decade in whole positions; the last is `length`."""
    exponents = np.arange(0, LOG_BUCKETS_PER_DECADE * np.log10(length), 1) / LOG_BUCKETS_PER_DECADE
    edges = np.unique(np.rint(10.0**exponents).astype(np.int64))
    return np.concatenate([[0], edges[edges < length], [length]])


class BucketSums:
    """count (int64), sum and sum_squares (float64; nats, nats²) of the NLL per bucket between `edges`."""

    def __init__(self, edges: np.ndarray) -> None:
        self.edges = edges
        self.count, self.sum, self.sum_squares = (np.zeros(len(edges) - 1, dtype=kind) for kind in SUMS.values())

    def add(self, start: int, nll: np.ndarray) -> None:
        """Add the NLL, float [n], of the tokens at positions start, start + 1, ..."""
        if not len(nll):
            return
        positions = np.arange(start, start + len(nll))
        bucket = np.searchsorted(self.edges, positions, side="right") - 1
        part = slice(bucket[0], bucket[-1] + 1)
        bucket -= bucket[0]
        nll = nll.astype(np.float64)
        self.count[part] += np.bincount(bucket)
        self.sum[part] += np.bincount(bucket, weights=nll)
        self.sum_squares[part] += np.bincount(bucket, weights=nll**2)

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name) for name in SUMS}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what `arrays` gave. Raises ValueError where the buckets are others."""
        for name in SUMS:
            if arrays[name].shape != self.count.shape:
                raise ValueError(f"{name} has {arrays[name].shape[0]} buckets, not {len(self.count)}")
            setattr(self, name, arrays[name].astype(SUMS[name]))


class StreamStatistics:
    """A stream's NLL over position, in both kinds of buckets. O(1) per token; memory does not grow with the stream."""

    def __init__(self, length: int) -> None:
        self.buckets = {"linear": BucketSums(linear_edges(length)), "log": BucketSums(log_edges(length))}

    def add(self, start: int, nll: np.ndarray) -> None:
        """Add the NLL of the tokens at positions start, start + 1, ..."""
        for sums in self.buckets.values():
            sums.add(start, nll)

    @property
    def tokens(self) -> int:
        return int(self.buckets["linear"].count.sum())

    @property
    def total(self) -> float:
        """The NLL of all tokens together, in nats."""
        return float(self.buckets["linear"].sum.sum())

    def newest(self, tokens: int) -> tuple[int, float]:
        """Number and NLL of the newest tokens, at least so many, in whole buckets."""
        sums = self.buckets["linear"]
        behind = np.cumsum(sums.count[::-1])
        first = len(behind) - 1 - min(int(np.searchsorted(behind, tokens)), len(behind) - 1)
        return int(sums.count[first:].sum()), float(sums.sum[first:].sum())

    def arrays(self) -> dict[str, np.ndarray]:
        """All sums by name, "linear_count", ..."""
        return {f"{kind}_{name}": array for kind, sums in self.buckets.items() for name, array in sums.arrays().items()}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take over what `arrays` gave. Raises ValueError or KeyError where they are another stream's."""
        for kind, sums in self.buckets.items():
            sums.restore({name: arrays[f"{kind}_{name}"] for name in SUMS})


def merge(streams: list[dict[str, np.ndarray]], length: int) -> dict[str, np.ndarray]:
    """Arrays of stats.npz: both kinds' edges, and each sum of every stream, [streams, buckets]."""
    edges = {"linear_edges": linear_edges(length), "log_edges": log_edges(length)}
    return edges | {name: np.stack([stream[name] for stream in streams]) for name in streams[0]}


def table(arrays: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Few rows of linear buckets over all streams: start, end, tokens, mean NLL, perplexity, `spread`.

    spread: standard deviation of the streams' mean NLL in the row; None of one stream. arrays: from `merge`.
    """
    edges = arrays["linear_edges"]
    size = round_bucket(int(edges[-1]), TABLE_ROWS)
    return [_row(arrays, start, min(start + size, int(edges[-1]))) for start in range(0, int(edges[-1]), size)]


def _row(arrays: dict[str, np.ndarray], start: int, end: int) -> dict[str, Any]:
    first, last = np.searchsorted(arrays["linear_edges"], (start, end))
    tokens, total = (arrays[f"linear_{name}"][:, first:last].sum(axis=1) for name in ("count", "sum"))
    scored = int(tokens.sum())
    nll = float(total.sum()) / scored if scored else None
    spread = float(np.std(total / tokens, ddof=1)) if len(tokens) > 1 and tokens.all() else None
    return {
        "start": start,
        "end": end,
        "tokens": scored,
        "nll": nll,
        "perplexity": perplexity(nll),
        "spread": spread,
    }
