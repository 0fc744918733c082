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

ARGUMENTS = (ctypes.c_void_p, ctypes.c_void_p, *(4 * [ctypes.c_int64]))


def weigh_window(scores: WindowScores, oldest: int) -> Tensor:
    """Turn scores into weights `2^score`, 0 outside of a query's window; their sums, `[heads, rows, 1]`.

    Query q of a block of m has in its window the columns oldest + q, or 0, to columns - m + q; oldest is 0, or less in
    the blocks of a sequence's beginning. Sums are float32 or wider.
    """
    weights, queries = scores.all, scores.newest.shape[-1]
    built = built_pass() if weights.dtype == torch.bfloat16 and weights.device.type == "cpu" else None
    if built is not None:
        sums = weights.new_empty(*weights.shape[:-1], 1, dtype=torch.float32)
        built(weights.data_ptr(), sums.data_ptr(), sums.numel(), weights.shape[-1], queries, oldest)
        return sums
    if weights.dtype == torch.bfloat16 and weights.device.type == "cpu":
        say_not_built()
    weights.exp2_()
    scores.newest.tril_()
    if oldest + queries > 1:
        scores.oldest.triu_(oldest)
    return weights.sum(-1, keepdim=True).to(torch.promote_types(weights.dtype, torch.float32))


def built_pass() -> Callable[..., None] | None:
    """The compiled pass, where there is one."""
    return compiled("weigh_window", ARGUMENTS)
