"""Ranks and devices: which process this is, what it computes on, and how ranks tell each other things."""

import ctypes
import json
import os
import platform
import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from utils.console import Console
from utils.errors import SharedError, UserError

RANK_TIMEOUT = timedelta(days=2)  # a rank may wait for the longest document of another
OUT_OF_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""How the CPU's allocator, the driver and cuBLAS say it, where it is no error of a class of its own."""


@dataclass(frozen=True)
class Runtime:
    """This process among `world_size`. `device`: what it computes on. `console`: silent but on rank 0."""

    rank: int
    world_size: int
    device: torch.device
    console: Console
    messages: dist.ProcessGroup | None

    @property
    def is_main(self) -> bool:
        """Whether this is the rank that writes results and talks to the user."""
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """Every rank's JSON value, in rank order, on the first rank; an empty list elsewhere."""
        if self.messages is None:
            return [value]
        payload = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world_size)]
        with _listening():
            dist.all_gather(sizes, torch.tensor([len(payload)]), group=self.messages)
            longest = int(max(sizes))
            payload = torch.nn.functional.pad(payload, (0, longest - len(payload)))
            received = [torch.empty(longest, dtype=torch.uint8) for _ in sizes] if self.is_main else None
            dist.gather(payload, received, group=self.messages)
        return [json.loads(bytes(data[:size].numpy())) for data, size in zip(received or [], sizes)]

    def broadcast(self, value: Any) -> Any:
        """The first rank's JSON value, on every rank."""
        if self.messages is None:
            return value
        payload = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        size = torch.tensor([len(payload)])
        with _listening():
            dist.broadcast(size, 0, group=self.messages)
            if not self.is_main:
                payload = torch.empty(int(size), dtype=torch.uint8)
            dist.broadcast(payload, 0, group=self.messages)
        return json.loads(bytes(payload.numpy()))

    def apart(self) -> "Runtime":
        """The same ranks with a channel of their own, for another thread's messages; all ranks call it together."""
        if self.messages is None:
            return self
        return replace(self, messages=dist.new_group(backend="gloo", timeout=RANK_TIMEOUT))

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block that all ranks enter and leave together: a UserError of one is raised on all, as a SharedError.

        What stands within must not itself wait for ranks. What is for one of them stands under `if runtime.is_main`.
        """
        own = None
        try:
            yield
        except UserError as error:
            own = str(error)
        errors = self.broadcast([error for error in self.gather(own) if error is not None])
        if errors:
            raise SharedError(errors[0])


@contextmanager
def joined_ranks(seed: int | None) -> Iterator[Runtime]:
    """Join the ranks that a launcher announces in the environment (none: this process is the only one).

    Chooses the device (a GPU per local rank, else the CPU) and seeds Python, numpy and torch (None counts as
    0). Ranks leave together, unless one leaves with an exception.
    """
    os.environ.setdefault("RANK", "0")
    os.environ.setdefault("WORLD_SIZE", "1")
    os.environ.setdefault("LOCAL_RANK", "0")
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = _choose_device(int(os.environ["LOCAL_RANK"]))
    _seed_everything(seed or 0)
    _share_cores(device, world_size)
    messages = _join_ranks(device, world_size)
    yield Runtime(rank, world_size, device, Console(silent=rank != 0), messages)
    if messages is not None:
        dist.barrier(group=messages)
    if dist.is_initialized():
        dist.destroy_process_group()


def peak_memory(device: torch.device) -> int:
    """Most bytes in use so far: what torch allocated on a GPU, on the CPU this process's resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _status_bytes("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def memory_in_use(device: torch.device) -> int | None:
    """Bytes in use now, as `peak_memory` counts them; None where the system does not tell."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else _status_bytes("VmRSS")


def release_memory(device: torch.device) -> None:
    """Give what C's allocator holds free back to the system: it would fragment, and grow over a long run.

    Only where there is glibc, and for work on the CPU.
    """
    if device.type == "cpu" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)


def _status_bytes(field: str) -> int | None:
    """A number that Linux tells of this process's memory; None where there is no Linux."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch failed for want of memory, on a GPU or the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)


def describe_device(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"{device.type} ({platform.machine()}, {torch.get_num_threads()} threads)"


def _choose_device(local_rank: int) -> torch.device:
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed searches, and warns of what it finds
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise UserError(
            f"rank {local_rank} of this machine has no GPU: start at most {torch.cuda.device_count()} ranks"
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _share_cores(device: torch.device, world_size: int) -> None:
    """Ranks that compute on the same processor must not each take all of its cores."""
    if device.type == "cpu" and world_size > 1 and "OMP_NUM_THREADS" not in os.environ:
        ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or world_size)
        torch.set_num_threads(max(1, torch.get_num_threads() // ranks_here))


def _join_ranks(device: torch.device, world_size: int) -> dist.ProcessGroup | None:
    """The group for messages between ranks: on the CPU, whatever the tensors of the model are on."""
    if world_size == 1:
        return None
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=RANK_TIMEOUT)
    return dist.new_group(backend="gloo", timeout=RANK_TIMEOUT)


@contextmanager
def _listening() -> Iterator[None]:
    """Messages between ranks fail where one of them is no more: killed, or ended by an error of its own."""
    try:
        yield
    except RuntimeError:
        raise SharedError(
            "another rank has ended before its work was done (killed, for want of memory perhaps, or by the error "
            "above): the same command without --overwrite goes on where it stopped"
        ) from None
