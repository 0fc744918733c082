"""Where ranks meet before they compute: each tells the others its host, its cores and its GPU."""

import json
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import groupby
from pathlib import Path

import torch
import torch.distributed as dist

from utils.errors import SharedError, UserError
from utils.ranks.launch import Place

PAUSE = 0.2
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Member:
    """What a rank tells of itself.

    host: its name. machine: the same for all that share cores, containers too. cores: those that it may run on; none
    where the system does not tell. gpu: the identity of the GPU that it takes, None on the CPU.
    """

    host: str
    machine: str
    cores: Sequence[int]
    gpu: str | None

    @classmethod
    def here(cls, device: torch.device) -> "Member":
        """This process, which computes on the device."""
        host = socket.gethostname()
        machine = BOOT_ID.read_text().strip() if BOOT_ID.exists() else host
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        return cls(host, machine, cores, _identity(device) if device.type == "cuda" else None)

    def shares_cores_with(self, other: "Member") -> bool:
        """Whether there are cores that both may run on; a rank does with itself."""
        apart = self.cores and other.cores and not set(self.cores) & set(other.cores)
        return self.machine == other.machine and not apart


def meet(place: Place, own: Member, timeout: int) -> tuple[dist.Store, list[Member]]:
    """The store that all ranks share, and every rank as it tells of itself, in rank order.

    timeout: seconds to wait for the last one. Raises UserError where they do not all come, or two take one GPU.
    """
    store = _open_store(place, timeout)
    names = [f"member/{rank}" for rank in range(place.world_size)]
    try:
        store.set(names[place.rank], json.dumps(asdict(own)))
        _wait_for_all(store, names, timeout)
        members = [Member(**json.loads(text)) for text in store.multi_get(names)]
    except RuntimeError:
        raise UserError(f"rank 0 has ended before all {place.world_size} ranks had come: it says why") from None
    _refuse_shared_gpus(members)
    return store, members


def name_ranks(ranks: Sequence[int], members: Sequence[Member]) -> str:
    """Ranks in words, with their hosts: `rank 1 on a, ranks 2 and 3 on b`."""
    hosts = [(host, list(group)) for host, group in groupby(ranks, key=lambda rank: members[rank].host)]
    return ", ".join(f"{_in_words(group)} on {host}" for host, group in hosts)


def _in_words(ranks: Sequence[int]) -> str:
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    return f"ranks {', '.join(map(str, ranks[:-1]))} and {ranks[-1]}"


def _open_store(place: Place, timeout: int) -> dist.Store:
    try:
        if place.rank:
            _wait_for_server(place, timeout)
        # as if alone: `meet` waits for the others, and names those that are missing
        store, *_ = next(dist.rendezvous("env://", place.rank, 1, timeout=timedelta(seconds=timeout)))
    except (OSError, RuntimeError, ValueError) as error:
        words = str(error).splitlines()[0].rstrip(". ")
        raise UserError(
            f"rank {place.rank} cannot meet the others at {place.address}:{place.port} within --rank_timeout {timeout} "
            f"seconds ({words}): MASTER_ADDR and MASTER_PORT must be rank 0's, and a free port there"
        ) from None
    return store


def _wait_for_server(place: Place, timeout: int) -> None:
    """Until the store answers: torch's own client would print pages while it does not. Raises OSError."""
    end = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((place.address, place.port), timeout=max(1.0, end - time.monotonic())).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(PAUSE)


def _wait_for_all(store: dist.Store, names: Sequence[str], timeout: int) -> None:
    end = time.monotonic() + timeout
    while not store.check(list(names)):
        if time.monotonic() > end:
            missing = [rank for rank, name in enumerate(names) if not store.check([name])]
            raise SharedError(
                f"{_in_words(missing)} of {len(names)} did not come within --rank_timeout {timeout} seconds: start "
                "all ranks, or give them more time"
            )
        time.sleep(PAUSE)


def _identity(device: torch.device) -> str:
    """Of the GPU; of the slice of it where one is divided."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    part = visible[device.index] if device.index < len(visible) and visible[device.index].startswith("MIG-") else ""
    return f"{torch.cuda.get_device_properties(device).uuid}{part}"


def _refuse_shared_gpus(members: Sequence[Member]) -> None:
    """Ranks that each take the only GPU they see may see the same one."""
    takers: dict[str, list[int]] = {}
    for rank, member in enumerate(members):
        if member.gpu is not None:
            takers.setdefault(member.gpu, []).append(rank)
    for gpu, ranks in takers.items():
        if len(ranks) > 1:
            raise SharedError(
                f"{name_ranks(ranks, members)} take the same GPU ({gpu}): start one rank for each GPU, or have the "
                "launcher give each a GPU of its own, and LOCAL_RANK"
            )
