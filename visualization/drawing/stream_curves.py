"""Curves of streams, from the sums in their linear or logarithmic buckets."""

import numpy as np

from utils.trials.nll_by_position import SUMS, window_sums
from visualization.drawing.curves import Curve, Scale

FEWEST_TOKENS = 32  # in the first point: single tokens scatter by some 3 nats, and the first of a text most


def stream_curve(arrays: dict[str, np.ndarray], *, smoothing: int = 1, scale: Scale = "log") -> Curve:
    """The curve of a trial's stats.npz, the mean of its streams, from the buckets that are even on that axis.

    A point stands for a bucket and averages the tokens of a window: the bucket, widened by whole buckets, about as
    far on either side, to about `smoothing` positions where it is narrower. Near the first position the window
    narrows so that it stays centred, at the end it is cut. The first buckets are one point of at least
    min(FEWEST_TOKENS, smoothing) tokens, and a last one that was cut short joins the one before it.
    """
    edges = arrays[f"{scale}_edges"]
    count, total, squares = (arrays[f"{scale}_{name}"] for name in SUMS)
    bounds = _point_bounds(edges, count.sum(axis=0), min(FEWEST_TOKENS, smoothing))
    starts, ends = edges[bounds[:-1]], edges[bounds[1:]]
    windows = _windows(edges, starts, ends, smoothing)
    tokens, total, squares = (window_sums(values, *windows) for values in (count, total, squares))
    mean = total.sum(axis=0) / tokens.sum(axis=0)
    if len(count) > 1:
        deviation = np.std(total / tokens, axis=0, ddof=1)
        error = deviation / np.sqrt(len(count))
    else:
        deviation = np.full(len(mean), np.nan)
        error = _token_error(tokens[0], total[0], squares[0])
    position = (np.maximum(starts, 1) + ends - 1) / 2  # the token at 0 is not scored
    return Curve(position, mean, tokens.sum(axis=0), np.full(len(mean), len(count)), deviation, error)


def _point_bounds(edges: np.ndarray, tokens: np.ndarray, fewest: int) -> np.ndarray:
    """Indices of the edges between points: the first buckets, then each bucket by itself; int64 (points + 1,)."""
    buckets = len(tokens)
    head = min(int(np.searchsorted(np.cumsum(tokens), fewest)) + 1, buckets)
    bounds = np.concatenate([[0], np.arange(head, buckets + 1)])
    widths = np.diff(edges[bounds])
    if len(widths) > 2 and 2 * widths[-1] < widths[-2]:
        bounds = np.delete(bounds, -2)
    return bounds


def _windows(edges: np.ndarray, starts: np.ndarray, ends: np.ndarray, smoothing: int) -> tuple[np.ndarray, np.ndarray]:
    """First bucket of each point's window and the one after its last: the edges nearest to where it should end.

    It reaches as far up as it does down, and down no further than the first position.
    """
    margin = np.maximum(smoothing - (ends - starts), 0) // 2
    halfway = (edges[:-1] + edges[1:]) / 2
    lower = np.searchsorted(halfway, starts - margin, side="right")
    upper = np.searchsorted(halfway, ends + (starts - edges[lower]), side="left")
    return lower, upper


def _token_error(tokens: np.ndarray, total: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Standard error of the mean of independent tokens; NaN of fewer than two."""
    spread = np.maximum(squares - total**2 / tokens, 0)
    return np.where(tokens > 1, np.sqrt(spread / np.maximum(tokens - 1, 1) / tokens), np.nan)
