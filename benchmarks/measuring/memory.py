"""The most memory that a stretch of work takes: torch's count on a GPU, resident memory on the CPU."""

import gc
import os
from pathlib import Path

import torch

from utils.errors import UserError
from utils.ranks.runtime import release_memory

MIB = 2**20


class PeakMemory:
    """Bytes in use now, and the most that were in use since `start`."""

    def __init__(self, device: str) -> None:
        self.device = device

    def start(self) -> int:
        """Begin anew; returns the bytes in use. Raises UserError where the system does not tell them."""
        gc.collect()
        release_memory(torch.device(self.device))  # else what comes would fill what is free, and count for nothing
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            return torch.cuda.memory_allocated()
        try:
            Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, the peak of the resident memory
        except OSError as error:
            raise UserError(
                f"peak memory cannot be measured here, /proc/self/clear_refs is not to be written ({error.strerror}): "
                "take a Linux machine that lets a process do so, or --device cuda"
            ) from None
        return _status("VmRSS")

    def peak(self) -> int:
        return torch.cuda.max_memory_allocated() if self.device == "cuda" else _status("VmHWM")


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def memory_of(device: str) -> int:
    """Bytes that the device has."""
    if device == "cuda":
        return torch.cuda.get_device_properties(0).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
