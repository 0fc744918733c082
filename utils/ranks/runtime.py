"""Ranks and devices: which process this is, what it computes on, and how ranks tell each other things."""

import ctypes
import json
import os
import platform
import random
import resource
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from models.errors import LostPeerError
from utils.arguments import RANK_TIMEOUT
from utils.console import Console
from utils.errors import LostRankError, SharedError, UserError
from utils.ranks.heartbeat import GOES_ON, Heartbeat
from utils.ranks.launch import Place, take_place
from utils.ranks.meeting import Member, meet
from utils.text_tables import counted

MESSAGE_TIMEOUT = timedelta(days=20)  # a rank may wait long for another that lives; gloo counts ms in 32 bits
LOST = (
    "another rank has ended before its work was done (killed, for want of memory perhaps, or by the error above): "
    f"{GOES_ON}"
)
OUT_OF_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""How the CPU's allocator, the driver and cuBLAS say it, where it is no error of a class of its own."""


@dataclass(frozen=True)
class Runtime:
    """This process among `world_size`. `device`: what it computes on. `console`: silent but on rank 0.

    messages, heartbeat: None where it is alone. sequence_parallel: consecutive ranks that read one sequence together,
    as one reader; sequence: their group, None where each reads its own.
    """

    rank: int
    world_size: int
    device: torch.device
    console: Console
    messages: dist.ProcessGroup | None
    heartbeat: Heartbeat | None = None
    sequence_parallel: int = 1
    sequence: dist.ProcessGroup | None = None

    @property
    def readers(self) -> int:
        """How many sequences are read at once: texts are shared out among so many."""
        return self.world_size // self.sequence_parallel

    @property
    def reader(self) -> int:
        """Which of them this rank takes part in."""
        return self.rank // self.sequence_parallel

    @property
    def keeps(self) -> bool:
        """Whether this is the rank of its reader that keeps what has been read: the last, where the window is."""
        return self.rank % self.sequence_parallel == self.sequence_parallel - 1

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
        with _listening(self.heartbeat):
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
        with _listening(self.heartbeat):
            dist.broadcast(size, 0, group=self.messages)
            if not self.is_main:
                payload = torch.empty(int(size), dtype=torch.uint8)
            dist.broadcast(payload, 0, group=self.messages)
        return json.loads(bytes(payload.numpy()))

    def largest(self, value: int) -> int:
        """The largest of all ranks' values, on every rank."""
        return self.broadcast(max(self.gather(value), default=0))

    def apart(self) -> "Runtime":
        """The same ranks with a channel of their own, for another thread's messages; all ranks call it together."""
        if self.messages is None:
            return self
        return replace(self, messages=dist.new_group(backend="gloo", timeout=MESSAGE_TIMEOUT))

    @contextmanager
    def hearing(self) -> Iterator[None]:
        """Within it ranks read sequences together: where one is lost there, the others say so as anywhere else."""
        try:
            yield
        except LostPeerError:
            raise LostRankError(LOST, said=not self.heartbeat.claim()) from None

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
def joined_ranks(seed: int | None, rank_timeout: int = RANK_TIMEOUT, sequence_parallel: int = 1) -> Iterator[Runtime]:
    """Join the ranks that a launcher announces in the environment (none: this process is the only one).

    Chooses the device (a GPU per local rank, else the CPU) and seeds Python, numpy and torch (None counts as
    0). Ranks leave together, unless one leaves with an exception. rank_timeout: seconds to wait for a rank that does
    not come, or is not heard of any more; one that lives is waited for as long as it takes. sequence_parallel: how many
    ranks read one sequence together. Raises SharedError where so many cannot be made of these.
    """
    place = take_place()
    if place.world_size % sequence_parallel:
        raise SharedError(
            f"--sequence_parallel {sequence_parallel} needs a multiple of {sequence_parallel} ranks, and there are "
            f"{place.world_size}: start as many with deepspeed, torchrun or srun"
        )
    device = _choose_device(place.local_rank)
    _seed_everything(seed or 0)
    console = Console(silent=place.rank != 0)
    if place.world_size == 1:
        yield Runtime(0, 1, device, console, None)
    else:
        store, members = meet(place, Member.here(device), rank_timeout)
        _share_cores(device, place.rank, members)
        with Heartbeat(store, place.rank, members, rank_timeout, console) as heartbeat:
            messages = _join_ranks(device, place, store, rank_timeout)
            sequence = _sequence_group(device, place, sequence_parallel)
            alike = place.rank, place.world_size, device, console, messages, heartbeat
            yield Runtime(*alike, sequence_parallel, sequence)
            with _listening(heartbeat):
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


def free_memory(device: torch.device) -> int:
    """Bytes that this process may still take: of a GPU's, or its share among the ranks here of this machine's."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    free = _proc_bytes("meminfo", "MemAvailable")
    if free is None:  # no Linux
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return free // _ranks_here()


def release_memory(device: torch.device) -> None:
    """Give what C's allocator holds free back to the system: it would fragment, and grow over a long run.

    Only where there is glibc, and for work on the CPU.
    """
    if device.type == "cpu" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)


def _status_bytes(field: str) -> int | None:
    """A number that Linux tells of this process's memory; None where there is no Linux."""
    return _proc_bytes("self/status", field)


def _proc_bytes(name: str, field: str) -> int | None:
    path = Path("/proc") / name
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch failed for want of memory, on a GPU or the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)


def describe_device(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"{device.type} ({platform.machine()}, {counted(torch.get_num_threads(), 'thread')})"


def _choose_device(local_rank: int) -> torch.device:
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed searches, and warns of what it finds
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if local_rank >= count > 1:
        raise UserError(f"rank {local_rank} of this machine has no GPU: start at most {count} ranks")
    # one that sees a single GPU may have been given it alone: `meet` refuses ranks that take the same one
    device = torch.device("cuda", 0 if count == 1 else local_rank)
    torch.cuda.set_device(device)
    return device


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _share_cores(device: torch.device, rank: int, members: Sequence[Member]) -> None:
    """Ranks that compute on the same cores must not each take all of them."""
    if device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        sharing = sum(members[rank].shares_cores_with(member) for member in members)
        torch.set_num_threads(max(1, torch.get_num_threads() // sharing))


def _ranks_here() -> int:
    """Ranks on this machine."""
    return int(next(filter(None, map(os.environ.get, ("LOCAL_WORLD_SIZE", "LOCAL_SIZE", "WORLD_SIZE"))), 1))


def _join_ranks(device: torch.device, place: Place, store: dist.Store, timeout: int) -> dist.ProcessGroup:
    """The group for messages between ranks: on the CPU, whatever the tensors of the model are on.

    timeout: seconds to open their connections. Raises UserError where that fails.
    """
    on_gpu, seconds = device.type == "cuda", timedelta(seconds=timeout)
    try:
        dist.init_process_group(
            "nccl" if on_gpu else "gloo",
            store=store,
            rank=place.rank,
            world_size=place.world_size,
            timeout=MESSAGE_TIMEOUT if on_gpu else seconds,
            device_id=device if on_gpu else None,
        )
        messages = dist.new_group(backend="gloo", timeout=seconds)
    except RuntimeError as error:
        words = str(error).splitlines()[0]
        raise UserError(
            f"rank {place.rank} on {socket.gethostname()} cannot open its connections to the other ranks ({words}): "
            "GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME may have to name the network interface between the hosts"
        ) from None
    for group in (messages,) if on_gpu else (messages, dist.group.WORLD):
        group.set_timeout(MESSAGE_TIMEOUT)
    return messages


def _sequence_group(device: torch.device, place: Place, ranks: int) -> dist.ProcessGroup | None:
    """The group of consecutive ranks that this one reads a sequence with; all ranks call it."""
    if ranks == 1:
        return None
    backend = "nccl" if device.type == "cuda" else "gloo"
    members = [list(range(first, first + ranks)) for first in range(0, place.world_size, ranks)]
    return [dist.new_group(one, MESSAGE_TIMEOUT, backend) for one in members][place.rank // ranks]


@contextmanager
def _listening(heartbeat: Heartbeat) -> Iterator[None]:
    """Messages between ranks fail where one of them is no more: killed, or ended by an error of its own."""
    try:
        yield
    except RuntimeError:
        raise LostRankError(LOST, said=not heartbeat.claim()) from None
