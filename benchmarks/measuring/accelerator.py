"""The device that is measured: time, memory and kernels by what CUDA tells, or by the nearest thing on the CPU.

Every call that exists on CUDA alone stands here, so that all that is measured on a GPU runs on the CPU as well.
"""

import gc
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.measuring.memory import MIB, PeakMemory
from benchmarks.measuring.timing import Timing, seconds_of
from utils.ranks.runtime import release_memory

LISTED_KERNELS = 12


@dataclass(frozen=True)
class Busy:
    """What the profiler saw of one run: seconds in all, seconds in which a kernel ran, and the longest kernels.

    busy is None where it saw no kernel at all: a machine may forbid it to look.
    """

    wall: float
    busy: float | None
    kernels: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        share = None if self.busy is None else min(1.0, self.busy / self.wall)
        return {"wall_seconds": self.wall, "busy_seconds": self.busy, "busy_share": share, "kernels": self.kernels}


class Accelerator:
    """A device by its name, "cuda" or "cpu"."""

    def __init__(self, device: str) -> None:
        self.device, self.is_gpu = device, device == "cuda"

    def describe(self) -> dict[str, Any]:
        """Memory in MiB, and on a GPU its architecture, processors and the versions of what drives it."""
        if not self.is_gpu:
            return {"memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MIB}
        properties = torch.cuda.get_device_properties(0)
        return {
            "memory_mib": properties.total_memory // MIB,
            "free_memory_mib": torch.cuda.mem_get_info()[0] // MIB,
            "capability": list(torch.cuda.get_device_capability()),
            "processors": properties.multi_processor_count,
            "cuda": torch.version.cuda,
        }

    def clear(self) -> None:
        """Give back memory that nothing uses."""
        gc.collect()
        release_memory(torch.device(self.device))
        if self.is_gpu:
            torch.cuda.empty_cache()

    def works(self) -> bool:
        """Whether the device still computes: an illegal access ends all use of a GPU within the process."""
        try:
            return int(torch.ones(2, device=self.device).sum()) == 2
        except RuntimeError:
            return False

    def time(self, run: Callable[[], object], repeats: int = 5, budget: float = 1.0) -> Timing:
        """Seconds of a run, the median of as many as fit in `budget`, after one in which kernels are made.

        A first run that takes longer than the budget by itself is the only one on the CPU; on a GPU, where it may have
        been made of compiling, there is one more.
        """
        first = seconds_of(run, self.device)
        if not self.is_gpu:
            later = min(repeats, int(budget // first))
            return Timing.of([seconds_of(run, self.device) for _ in range(later)] or [first])
        seconds = [self._seconds_on_gpu(run)]
        while len(seconds) < min(repeats, budget // seconds[0]):
            seconds.append(self._seconds_on_gpu(run))
        return Timing.of(seconds)

    def _seconds_on_gpu(self, run: Callable[[], object]) -> float:
        """Between two events: without the host's time to notice the end, which is as long as a short kernel."""
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1e3

    def memory_of(self, run: Callable[[], object], output_bytes: int = 0) -> float:
        """MiB that a run takes at most beyond what is there before it and beyond its output."""
        memory = PeakMemory(self.device)
        before = memory.start()
        run()
        return (memory.peak() - before - output_bytes) / MIB

    def busy(self, run: Callable[[], object]) -> Busy:
        """The share of a run in which the device computes; on the CPU, in which one of torch's operators runs."""
        kind = ProfilerActivity.CUDA if self.is_gpu else ProfilerActivity.CPU
        with profile(activities=[kind]) as seen:
            wall = seconds_of(run, self.device)
        events = [event for event in seen.events() if self._counts(event)]
        spans = [(event.time_range.start, event.time_range.end) for event in events]
        return Busy(wall, covered(spans) / 1e6 if spans else None, longest_kernels(events))

    def _counts(self, event: Any) -> bool:
        if self.is_gpu:
            return event.device_type != DeviceType.CPU
        return event.cpu_parent is None and event.name.startswith("aten::")


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """The length of the union of spans, each from its start to its end."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def longest_kernels(events: Iterable[Any]) -> list[dict[str, Any]]:
    """Names with calls and seconds in all, those that took most first."""
    calls: dict[str, list[float]] = {}
    for event in events:
        calls.setdefault(event.name, []).append((event.time_range.end - event.time_range.start) / 1e6)
    found = [{"name": name, "calls": len(taken), "seconds": sum(taken)} for name, taken in calls.items()]
    return sorted(found, key=_seconds, reverse=True)[:LISTED_KERNELS]


def _seconds(kernel: dict[str, Any]) -> float:
    return kernel["seconds"]
