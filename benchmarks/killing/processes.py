"""Processes as the system tells of them: who started whom, and who is alive."""

import os
import signal
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

LOOK_SECONDS = 0.01


def descendants(process: int) -> list[int]:
    """All processes that one has started, and those that these have."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            children.setdefault(_parent_and_state(path)[0], []).append(int(path.parent.name))
    found, new = [], [process]
    while new:
        new = [child for parent in new for child in children.get(parent, [])]
        found += new
    return found


def has_variable(process: int, name: str) -> bool:
    """Whether the environment variable was there as the process was started."""
    try:
        content = Path(f"/proc/{process}/environ").read_bytes()
    except OSError:
        return False
    return any(line.startswith(f"{name}=".encode()) for line in content.split(b"\0"))


def parent_of(process: int) -> int:
    """0 where it has ended."""
    try:
        return _parent_and_state(Path(f"/proc/{process}/stat"))[0]
    except OSError:
        return 0


def is_alive(process: int) -> bool:
    """Whether any of its threads is there: a process that only nobody has asked about has ended.

    The first thread of a killed one may have gone before the others, which still hold its files and locks.
    """
    path = Path(f"/proc/{process}")
    try:
        return _parent_and_state(path / "stat")[1] not in "ZX" or len(os.listdir(path / "task")) > 1
    except OSError:
        return False


def kill(processes: Sequence[int]) -> None:
    """As `kill -9` does, of those that are there."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def have_ended(processes: Collection[int], seconds: float) -> bool:
    """Whether all end within so many seconds, which are waited for."""
    deadline = time.monotonic() + seconds
    while any(map(is_alive, processes)):
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def _parent_and_state(path: Path) -> tuple[int, str]:
    state, parent = path.read_text().rpartition(")")[2].split()[:2]
    return int(parent), state
