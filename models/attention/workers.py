"""Independent pieces of work on the CPU, shared out over threads each of which computes alone.

An operation that is shared out over all cores ends where the last of them does: beside a busy process each one waits
for a core that is away, hundreds of times in a layer. Here a thread takes the next piece when it has done one, and
nobody waits before the end.
"""

import ctypes
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from .native.library import loaded, openmp_runtimes

START_SECONDS = 10.0
MKL = ("libtorch_cpu", "libmkl_rt")
"""Libraries that MKL may be in."""
_pools: dict[int, "_Pool"] = {}
_lock = threading.Lock()


def may_share(*tensors: Tensor) -> bool:
    """Whether parts of these, computed by other threads and written into memory, are what this thread would make of the
    whole: on the CPU, untraced, without autocast, which is a thread's own, and where no gradient is recorded.
    """
    recorded = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    on_cpu = all(tensor.device.type == "cpu" for tensor in tensors)
    return on_cpu and not (recorded or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"))


def has_plain_memory(*tensors: Tensor) -> bool:
    """Whether a compiled pass may read these by their addresses: `may_share`, and nobody traces what it does."""
    plain = all(type(tensor) in (Tensor, nn.Parameter) for tensor in tensors)
    watched = is_in_torch_dispatch_mode() or torch.jit.is_tracing()
    return plain and not watched and may_share(*tensors) and not any(map(_has_tangent, tensors))


def _has_tangent(tensor: Tensor) -> bool:
    return forward_ad.unpack_dual(tensor).tangent is not None


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
        self.count = count
        self.computes_alone = cores() >= count and self._begin()  # a bound thread has one core, as its children have

    def _begin(self) -> bool:
        """Start all threads; whether each of them computes alone."""
        self._threads, ready = ThreadPoolExecutor(self.count, "attention"), threading.Barrier(self.count)
        try:
            begun = [self._threads.submit(_compute_alone, ready) for _ in range(self.count)]
            alone = [thread.result() for thread in begun]
        except (RuntimeError, OSError):  # the system gives no more threads
            alone = [False]
        finally:
            ready.abort()
        if not all(alone):
            self._threads.shutdown(wait=False)
        return all(alone)

    def run(self, function: Callable[..., None], pieces: Sequence[tuple[Any, ...]]) -> None:
        left = iter(pieces)
        inference = torch.is_inference_mode_enabled()

        def work() -> None:
            with torch.inference_mode(inference), torch.no_grad():
                while (piece := next(left, None)) is not None:  # one at a time: the interpreter's lock sees to it
                    function(*piece)

        working = [self._threads.submit(work) for _ in range(self.count)]
        try:
            for thread in working:
                thread.result()
        finally:
            list(left)  # of what is left where one has failed, nobody begins any
            wait(working)


def _compute_alone(ready: threading.Barrier) -> bool:
    """Have this thread compute alone; whether it does. All wait for each other, so that each of them is told."""
    torch.get_num_threads()  # torch sets up a thread when it first asks, which would undo what follows
    try:
        for path in openmp_runtimes():  # torch's is among them, and others are told the same of this thread
            ctypes.CDLL(path).omp_set_num_threads(1)
        multiplies_alone = not torch.backends.mkl.is_available() or _tell_mkl()
        ready.wait(timeout=START_SECONDS)
    except (OSError, AttributeError, threading.BrokenBarrierError):
        ready.abort()
        return False
    return multiplies_alone and torch.get_num_threads() == 1


def _tell_mkl() -> bool:
    """Have MKL compute alone in this thread too, which no longer asks OpenMP once torch was told; whether it does."""
    for path in loaded(MKL):
        library = ctypes.CDLL(path)
        if hasattr(library, "MKL_Set_Num_Threads_Local"):
            library.MKL_Set_Num_Threads_Local(1)
            return library.MKL_Get_Max_Threads() == 1
    return False


def cores() -> int:
    """Those that this thread may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _forget() -> None:
    global _lock
    _pools.clear()
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)  # a child has none of its parent's threads
