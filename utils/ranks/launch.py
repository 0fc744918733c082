"""What a launcher says of this process in its environment: torch's variables, or SLURM's where those are absent.

torchrun and deepspeed set torch's. `srun` starts each task of a step with SLURM's alone, which are then written down as
torch's, for torch and DeepSpeed to read.
"""

import itertools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from utils.errors import SharedError, UserError

FIRST_PORT, PORTS = 12_000, 20_000
"""Where ranks of a SLURM job may meet: below the ports that systems hand out themselves."""
SPECIAL_STEPS = 4_294_967_280
"""From here on a step's number says that it is none of srun's: the batch script, or the shell that salloc opens."""
STEP_NUMBERS = ("SLURM_STEP_ID", "SLURM_STEPID")
_NODES = re.compile(r"(?:[^,\[\]]|\[[^\[\]]*\])+")
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


@dataclass(frozen=True)
class Place:
    """Which rank this process is, of how many. local_rank: its number on this host. address, port: where ranks meet."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    address: str = ""
    port: int = 0


def read_place(environment: Mapping[str, str] = os.environ) -> Place:
    """The place that a launcher has given this process; without one it is alone.

    Raises UserError where the variables are not whole: a rank that took itself for the only one would do, and write,
    what others do.
    """
    given = {name: value for name, value in environment.items() if value}
    if "RANK" in given or "WORLD_SIZE" in given:
        return _of_torch(given)
    if _tasks_of_step(given) > 1:
        return _of_slurm(given)
    return Place(local_rank=_number(given, "LOCAL_RANK") if "LOCAL_RANK" in given else 0)


def take_place() -> Place:
    """`read_place`, written down as torch's variables: torch, DeepSpeed and Transformers read them too."""
    place = read_place()
    os.environ |= {"RANK": str(place.rank), "WORLD_SIZE": str(place.world_size), "LOCAL_RANK": str(place.local_rank)}
    if place.world_size > 1:
        os.environ |= {"MASTER_ADDR": place.address, "MASTER_PORT": str(place.port)}
    return place


def announced_rank() -> int:
    """The rank that this process has, as far as its environment tells; 0 where that is not whole."""
    try:
        return read_place().rank
    except UserError:
        return 0


def expand_nodes(text: str) -> list[str]:
    """The names in one of SLURM's lists, such as `node[01-03,07],gpu5`, in their order. Raises ValueError."""
    if not text or ",".join(_NODES.findall(text)) != text:
        raise ValueError(text)
    return [name for part in _NODES.findall(text) for name in _expand(part)]


def _expand(part: str) -> Iterator[str]:
    pieces = re.split(r"\[(.*?)\]", part)
    choices = [list(_range_words(piece)) if place % 2 else [piece] for place, piece in enumerate(pieces)]
    return map("".join, itertools.product(*choices))


def _range_words(text: str) -> Iterator[str]:
    """01-03,07 as 01, 02, 03, 07: as many digits as the beginning has."""
    for word in text.split(","):
        match = _RANGE.fullmatch(word)
        if match is None:
            raise ValueError(text)
        first, last = match[1], match[2] or match[1]
        yield from (str(number).zfill(len(first)) for number in range(int(first), int(last) + 1))


def _of_torch(given: Mapping[str, str]) -> Place:
    _refuse_missing(given, ["RANK", "WORLD_SIZE"], "a launcher's variables are not whole")
    rank, world_size = _number(given, "RANK"), _number(given, "WORLD_SIZE")
    if rank >= world_size:
        raise UserError(f"RANK {rank} is not below WORLD_SIZE {world_size}: ranks are counted from 0")
    local = next((name for name in ("LOCAL_RANK", "SLURM_LOCALID") if name in given), None)
    if world_size == 1:
        return Place(local_rank=_number(given, local) if local else 0)
    _refuse_missing(given, ["MASTER_ADDR", "MASTER_PORT"], f"RANK {rank} of WORLD_SIZE {world_size} cannot meet others")
    meeting = given["MASTER_ADDR"], _number(given, "MASTER_PORT")
    return Place(rank, world_size, _number(given, local) if local else 0, *meeting)


def _tasks_of_step(given: Mapping[str, str]) -> int:
    """Tasks that srun has started beside this one; 1 outside its steps.

    A batch script has SLURM_PROCID 0 and SLURM_NTASKS of the whole job, but is no step of its own: nobody has started
    the other tasks.
    """
    step = next((_number(given, name) for name in STEP_NUMBERS if name in given), None)
    if step is None or step >= SPECIAL_STEPS:
        return 1
    count = next((name for name in ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS") if name in given), None)
    return _number(given, count) if count else 1


def _of_slurm(given: Mapping[str, str]) -> Place:
    tasks = _tasks_of_step(given)
    nodes = next(
        (name for name in ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST") if name in given), "SLURM_JOB_NODELIST"
    )
    needed = ["SLURM_PROCID", "SLURM_LOCALID"]
    needed += [] if "MASTER_ADDR" in given else [nodes]
    needed += [] if "MASTER_PORT" in given else ["SLURM_JOB_ID"]
    _refuse_missing(given, needed, f"SLURM has started {tasks} tasks, and this one cannot tell which it is")
    rank, local_rank = _number(given, "SLURM_PROCID"), _number(given, "SLURM_LOCALID")
    try:
        address = given.get("MASTER_ADDR") or expand_nodes(given[nodes])[0]
    except ValueError:
        raise SharedError(f"{nodes} is {given[nodes]!r}, no list of nodes: set MASTER_ADDR to rank 0's host") from None
    port = _number(given, "MASTER_PORT") if "MASTER_PORT" in given else _port_of_job(given)
    return Place(rank, tasks, local_rank, address, port)


def _port_of_job(given: Mapping[str, str]) -> int:
    """The same on all tasks of a step, and another for the next job or step."""
    step = next(_number(given, name) for name in STEP_NUMBERS if name in given)
    return FIRST_PORT + (_number(given, "SLURM_JOB_ID") + 997 * step) % PORTS


def _refuse_missing(given: Mapping[str, str], names: list[str], fault: str) -> None:
    missing = [name for name in names if name not in given]
    if missing:
        raise UserError(
            f"{fault}: {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set; start ranks with "
            "deepspeed, torchrun or srun, which set all of them"
        )


def _number(given: Mapping[str, str], name: str) -> int:
    if not given[name].isdecimal():
        raise UserError(f"{name} must be a whole number, not {given[name]!r}: a launcher sets it")
    return int(given[name])
