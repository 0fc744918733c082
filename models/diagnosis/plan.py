"""The plan of a diagnosis: which queries, which bins of distance, what counts as first and as near."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Plan:
    """The same for all texts of a trial, so that their numbers can be averaged.

    num_queries: the last so many queries of a text show logits against distance.
    distance_edges: int64 `[bins + 1]`, ascending from 0; bin b holds the distances edges[b] .. edges[b + 1] - 1.
    positions: int64 `[p]`, ascending: the queries whose entropy and attention mass are measured, where a text has them.
    first_tokens, window: a key j of query i is among the first where j < first_tokens, else in the window where
        i - j < window, else in the middle.
    num_hidden: so many tokens from a text's beginning have their hidden states kept.
    """

    num_queries: int
    distance_edges: np.ndarray
    positions: np.ndarray
    first_tokens: int
    window: int
    num_hidden: int


def even_edges(length: int, bins: int) -> np.ndarray:
    """Edges of at most `bins` bins of whole distances, about even, from 0 to `length`."""
    return np.unique(np.rint(np.linspace(0, length, bins + 1)).astype(np.int64))


def spread_positions(length: int, count: int) -> np.ndarray:
    """About `count` positions, evenly spread up to `length` - 1, and the last one of every power of two."""
    even = np.rint(np.linspace(0, length, count + 1)[1:]).astype(np.int64) - 1
    powers = 2 ** np.arange(length.bit_length()) - 1
    return np.unique(np.concatenate([even, powers]).clip(0))
