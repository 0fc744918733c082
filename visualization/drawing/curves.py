"""Curves of few points; those of documents, from sums per position: binning and smoothing, weighted by tokens."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from utils.trials.nll_by_position import window_sums

Scale = Literal["linear", "log"]

MAX_POINTS = 1000  # more than the dots of a column-wide picture at 300 dpi


@dataclass(frozen=True)
class Curve:
    """NLL against position, as arrays of shape (points,), in nats per token.

    position: mean position of the tokens of a point's bin; texts: how many documents or streams reach into it.
    tokens, mean: number and mean NLL of the tokens in a point's window (its bin, widened by the smoothing).
    deviation: standard deviation over texts, NaN where fewer than two are left: for documents that of one token's
    NLL at one position, pooled over the window, for streams that of a stream's mean NLL in the window.
    standard_error: of `mean`. Documents, and one stream, take tokens to be independent; several streams take
    only the streams to be.
    """

    position: np.ndarray
    mean: np.ndarray
    tokens: np.ndarray
    texts: np.ndarray
    deviation: np.ndarray
    standard_error: np.ndarray


def bin_edges(length: int, scale: Scale, max_points: int = MAX_POINTS) -> np.ndarray:
    """Edges, from 0 to length, of at most max_points bins of whole positions, about even on that axis."""
    if scale == "linear":
        edges = np.linspace(0, length, min(length, max_points) + 1)
    else:
        edges = np.concatenate([[0], np.geomspace(1, length, max_points)])
    return np.unique(np.rint(edges).astype(np.int64))


def position_curve(
    arrays: dict[str, np.ndarray],
    *,
    smoothing: int = 1,
    scale: Scale = "linear",
    max_points: int = MAX_POINTS,
) -> Curve:
    """The curve of a trial's nll.npz.

    A point stands for a bin of positions and averages the tokens of a window: the bin, widened by whole
    positions, as many on either side, to at most `smoothing` where it is narrower. Near the first position,
    where NLL falls steeply, the window narrows so that it stays centred: nothing pulls the start up or down.
    At the end it is cut where the text ends. Bins without a token give no point.
    """
    count = arrays["count"]
    edges = bin_edges(len(count), scale, max_points)
    starts, ends = edges[:-1], edges[1:]
    tokens_in_bin = window_sums(count, starts, ends)
    filled = tokens_in_bin > 0
    position = window_sums(count * np.arange(len(count)), starts, ends)[filled] / tokens_in_bin[filled]
    texts = np.maximum.reduceat(count, starts)[filled]

    first = int(np.argmax(count > 0))
    lower, upper = _windows(starts[filled], ends[filled], smoothing, first, len(count))
    tokens = window_sums(count, lower, upper)
    mean = window_sums(arrays["sum"], lower, upper) / tokens
    deviation = _pooled_deviation(arrays, lower, upper)
    deviation[texts < 2] = np.nan
    return Curve(position, mean, tokens, texts, deviation, deviation / np.sqrt(tokens))


def _windows(
    starts: np.ndarray, ends: np.ndarray, smoothing: int, first: int, length: int
) -> tuple[np.ndarray, np.ndarray]:
    margin = np.maximum(smoothing - (ends - starts), 0) // 2
    margin = np.minimum(margin, np.maximum(starts - first, 0))
    return starts - margin, np.minimum(ends + margin, length)


def _pooled_deviation(arrays: dict[str, np.ndarray], lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    count, total = arrays["count"], arrays["sum"]
    squares = np.maximum(arrays["sum_squares"] - total**2 / np.maximum(count, 1), 0)
    squares[count < 2] = 0  # one value has no spread; what is left of it here is rounding
    freedom = window_sums(np.maximum(count - 1, 0), lower, upper)
    variance = np.maximum(window_sums(squares, lower, upper), 0) / np.maximum(freedom, 1)
    return np.where(freedom > 0, np.sqrt(variance), np.nan)
