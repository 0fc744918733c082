"""The weights of a block's window from its scores: bfloat16 in one pass of C++ where `make` or pip has built it.

Between the two products of a block stand an exponential, a mask and a sum. In bfloat16 torch's passes for them take
nearly as long as one of the products, since they convert to float32 and back; `window_weights.cpp` takes a third of it.
"""

import ctypes
import logging
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from .segment_scores import WindowScores

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_suffix(".cpp")  # in a clone; a wheel has the library alone
LIBRARY = Path(__file__).with_name("libwindow_weights.so")
MEMORY_MAP = Path("/proc/self/maps")


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
        _say_not_built()
    weights.exp2_()
    scores.newest.tril_()
    if oldest + queries > 1:
        scores.oldest.triu_(oldest)
    return weights.sum(-1, keepdim=True).to(torch.promote_types(weights.dtype, torch.float32))


@lru_cache(maxsize=1)
def _say_not_built() -> None:
    logger.warning(
        "%s is not there for this machine: torch does the same for bfloat16 on the CPU, more slowly", LIBRARY.name
    )


@lru_cache(maxsize=1)
def built_pass() -> Callable[..., None] | None:
    """The compiled pass; None where it is not built from this source for this machine.

    None, too, where it would load another OpenMP than torch has: threads of two wait for each other. So on Linux only.
    """
    if not LIBRARY.is_file() or not MEMORY_MAP.is_file() or _is_outdated():
        return None
    runtimes = _openmp_runtimes()
    try:
        built = ctypes.CDLL(str(LIBRARY)).weigh_window
    except (OSError, AttributeError):
        return None
    built.argtypes, built.restype = [ctypes.c_void_p] * 2 + [ctypes.c_int64] * 4, None
    return built if _openmp_runtimes() == runtimes else None


def _is_outdated() -> bool:
    return SOURCE.is_file() and LIBRARY.stat().st_mtime < SOURCE.stat().st_mtime


def _openmp_runtimes() -> set[str]:
    """Paths of those that this process has loaded."""
    paths = {line.split()[-1] for line in MEMORY_MAP.read_text(errors="replace").splitlines()}
    return {path for path in paths if Path(path).name.startswith(("libgomp", "libiomp", "libomp"))}
