"""The log-sum-exp of bfloat16 logits on the CPU in one pass of C++, `attention/native/rows.cpp`.

Torch's loss makes them float32 first, and writes as many log-probabilities, of which one in a vocabulary is read.
"""

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor

from ..attention.native.library import compiled
from ..attention.workers import has_plain_memory

ARGUMENTS = (*(2 * [ctypes.c_void_p]), *(2 * [ctypes.c_int64]))


def log_sums(logits: Tensor) -> Tensor | None:
    """The logarithm of the sum of exponentials of each row: logits [m, vocab] -> float64 [m].

    So exact that a loss near 0 keeps its digits. NaN where all of a row are -inf, as torch's cross-entropy has it. None
    where the pass is not built, or does not give what torch gives: for other devices or dtypes, under autograd.
    """
    run = built_pass() if logits.dtype == torch.bfloat16 and has_plain_memory(logits) else None
    if run is None:
        return None
    rows = logits.contiguous()
    sums = rows.new_empty(len(rows), dtype=torch.float64)
    run(rows.data_ptr(), sums.data_ptr(), *rows.shape)
    return sums


def built_pass() -> Callable[..., None] | None:
    """The compiled pass, where there is one."""
    return compiled("log_sums", ARGUMENTS)
