"""Independent pieces of work on the CPU, shared out over threads each of which computes alone.

An operation that is shared out over all cores ends where the last of them does: beside a busy process each one waits
for a core that is away, hundreds of times in a layer. Here a thread takes the next piece when it has done one, and
nobody waits before the end.
"""

import ctypes
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from ..native.library import openmp_runtimes

_pools: dict[int, "_Pool"] = {}
_lock = threading.Lock()


def run_shared(function: Callable[..., None], pieces: Sequence[tuple[Any, ...]]) -> None:
    """Call `function(*piece)` for all pieces, in any order, as many at once as torch has threads here.

    One after the other where that is one thread, or where threads of ours cannot be told to compute alone.
    """
    count = torch.get_num_threads()
    pool = _pool(count) if min(count, len(pieces)) > 1 and not is_in_torch_dispatch_mode() else None
    if pool is None:
        for piece in pieces:
            function(*piece)
    else:
        pool.run(function, pieces)


def _pool(count: int) -> "_Pool | None":
    with _lock:
        if count not in _pools:
            _pools[count] = _Pool(count)
        pool = _pools[count]
    return pool if pool.computes_alone else None


class _Pool:
    """Threads of ours, each of which is one thread of torch's."""

    def __init__(self, count: int) -> None:
        self.computes_alone = _cores() >= count  # a bound thread has one core, which its children share
        if self.computes_alone:
            ready = threading.Barrier(count)
            self._threads = ThreadPoolExecutor(count, "attention")
            begun = [self._threads.submit(_begin, ready) for _ in range(count)]
            self.computes_alone = all(alone.result() for alone in begun)
        self.count = count

    def run(self, function: Callable[..., None], pieces: Sequence[tuple[Any, ...]]) -> None:
        left = iter(pieces)
        inference = torch.is_inference_mode_enabled()

        def work() -> None:
            with torch.inference_mode(inference), torch.no_grad():
                while (piece := next(left, None)) is not None:  # one at a time: the interpreter's lock sees to it
                    function(*piece)

        for done in [self._threads.submit(work) for _ in range(self.count)]:
            done.result()


def _begin(ready: threading.Barrier) -> bool:
    """Have this thread compute alone; whether it does. All wait for each other, so that each of them begins."""
    torch.get_num_threads()  # torch sets up a thread when it first asks, which would undo what follows
    for path in openmp_runtimes():  # torch's is among them, and others are told the same of this thread
        ctypes.CDLL(path).omp_set_num_threads(1)
    ready.wait()
    return torch.get_num_threads() == 1


def _cores() -> int:
    """Those that this thread may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _forget() -> None:
    global _lock
    _pools.clear()
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)  # a child has none of its parent's threads
