"""The weights of a block's window from its scores: bfloat16 in one pass of C++ where `make` or pip has built it.

Between the two products of a block stand an exponential, a mask and a sum. In bfloat16 torch's passes for them take
nearly as long as one of the products, since they convert to float32 and back; `native/window_weights.cpp` takes a third
of it.
"""

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor

from ..native.library import compiled, say_not_built
from .segment_scores import WindowScores

ARGUMENTS = (ctypes.c_void_p, ctypes.c_void_p, *(5 * [ctypes.c_int64]))


def weigh_window(scores: WindowScores, oldest: int) -> Tensor:
    """Turn scores into weights `2^score`, 0 outside of a query's window; their sums, `[heads, rows, 1]`.

    Query q of a block of m has in its window the columns oldest + q, or 0, to columns - m + q; oldest is 0, or less in
    the blocks of a sequence's beginning. Sums are float32 or wider.
    """
    queries = scores.newest.shape[-1]
    return weigh_columns(scores.all, queries, oldest, scores.all.shape[-1] - queries + 1)


def weigh_columns(weights: Tensor, queries: int, oldest: int, newest: int) -> Tensor:
    """The same of scores `[..., columns]`, contiguous, whose rows are those of a block's `queries` again and again.

    Query q has the columns oldest + q .. newest + q - 1, of those that there are.
    """
    is_half = weights.dtype == torch.bfloat16 and weights.device.type == "cpu"
    built = built_pass() if is_half else None
    columns = weights.shape[-1]
    if built is not None:
        sums = weights.new_empty(*weights.shape[:-1], 1, dtype=torch.float32)
        built(weights.data_ptr(), sums.data_ptr(), sums.numel(), columns, queries, oldest, newest)
        return sums
    if is_half:
        say_not_built()
    weights.exp2_()
    by_query = weights.view(-1, queries, columns)
    if newest < columns:
        first = max(0, newest - 1)
        by_query[..., first:].tril_(newest - 1 - first)
    if oldest + queries > 1:
        by_query[..., : oldest + queries - 1].triu_(oldest)
    return weights.sum(-1, keepdim=True).to(torch.promote_types(weights.dtype, torch.float32))


def built_pass() -> Callable[..., None] | None:
    """The compiled pass, where there is one."""
    return compiled("weigh_window", ARGUMENTS)
