"""Measuring of a benchmark: cases in turn within one process, medians with their spread, and floors of this machine."""

import gc
import time
from collections.abc import Callable, Container, Mapping
from dataclasses import asdict, dataclass
from statistics import median

import torch

from models.attention.prefill.matrix_products import lacks_onednn, multiply
from utils.ranks.runtime import is_out_of_memory

FLOOR_SIZE = 2048
FLOOR_PRODUCTS = 4
"""Products of that size in one run of a case: one alone would not be much longer than the clock's noise on a GPU."""
FLOOR_REPEATS = 15
MM, ONEDNN = "torch.mm", "oneDNN"
COPY_BYTES = 2**28


@dataclass(frozen=True)
class Timing:
    """Seconds of several runs: the median, the shortest, the longest and how many."""

    median: float
    low: float
    high: float
    repeats: int

    @classmethod
    def of(cls, seconds: list[float]) -> "Timing":
        return cls(median(seconds), min(seconds), max(seconds), len(seconds))

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def synchronize(device: str) -> None:
    """Wait until the device has done what it was told."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds_of(run: Callable[[], object], device: str) -> float:
    synchronize(device)
    start = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - start


def time_in_turn(
    cases: Mapping[str, Callable[[], object]],
    device: str,
    repeats: int = 5,
    budget: float = 20.0,
    compiled: Container[str] = (),
) -> dict[str, Timing]:
    """Timings of the cases, each round running every one of them once, after a warm-up round.

    A case that takes more than `budget` seconds in all takes part in the last rounds only; where one run alone takes
    longer, that of the warm-up is the only one. The warm-up goes backwards: while the system takes back the memory of
    a large case it slows down what follows, so a large one should stand last. A case for which memory runs out is left
    out.

    compiled: cases that their first run may compile. That of the warm-up is never theirs.
    """
    taken = {}
    for name, run in reversed(cases.items()):
        gc.collect()
        try:
            if device == "cuda":
                run()  # kernels are made for it
            taken[name] = [seconds_of(run, device)]
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
    rounds = {name: min(repeats, max(int(budget // first), name in compiled)) for name, (first,) in taken.items()}
    most = max(rounds.values(), default=0)
    for number in range(most):
        for name, run in cases.items():
            if name in taken and number >= most - rounds[name]:
                taken[name].append(seconds_of(run, device))
    return {name: Timing.of(taken[name][1:] or taken[name]) for name in cases if name in taken}


def product_cases(device: str, dtype: torch.dtype) -> dict[str, Callable[[], None]]:
    """Square matrix products: by `torch.mm`, which floors are counted by, and by oneDNN, if Λ-attention may."""
    left, right, out = (torch.randn(1, FLOOR_SIZE, FLOOR_SIZE, device=device, dtype=dtype) for _ in range(3))

    def repeated(product: Callable[[], object]) -> None:
        for _ in range(FLOOR_PRODUCTS):
            product()

    cases = {MM: lambda: repeated(lambda: torch.mm(left[0], right[0], out=out[0]))}
    if lacks_onednn(dtype, torch.device(device)) is None:
        cases[ONEDNN] = lambda: repeated(lambda: multiply(left, right, out, by_onednn=True))
    return cases


def product_rate(timing: Timing) -> float:
    """FLOP/s, from what one of `product_cases` took."""
    return FLOOR_PRODUCTS * 2 * FLOOR_SIZE**3 / timing.median


def copy_bandwidth(device: str) -> float:
    """Bytes read and written per second by a copy, the floor of what only moves memory: the median of several."""
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device=device).fill_(1)
    target = torch.empty_like(source)
    timing = time_in_turn({"copy": lambda: target.copy_(source)}, device, FLOOR_REPEATS)
    return 2 * COPY_BYTES / timing["copy"].median
