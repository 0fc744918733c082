"""Locks of torch's extension builds, DeepSpeed's among them: one that a killed build has left hangs all later runs."""

import os
import time
from pathlib import Path

from utils.console import Console

LOCK = "lock"  # in the folder of an extension: torch/utils/file_baton.py, whose owner keeps it open
STALE_AFTER = 60.0
"""Seconds without a file written in the folder, after which a lock that nobody here holds is one of the dead."""
PAUSE = 1.0


def clear_stale_builds(console: Console) -> None:
    """Remove the locks of builds whose process has gone, and tell of those that are still under way.

    A lock that no process here holds open may be of another host: it is left until its folder is STALE_AFTER seconds
    quiet.
    """
    for lock in _locks():
        owner = _owner(lock)
        if owner is not None:
            console.say(f"process {owner} builds {lock.parent.name}: waiting for it ({lock})")
            continue
        quiet = _quiet_for(lock)
        if quiet < STALE_AFTER:
            console.say(f"nobody here holds {lock}: it is removed unless its build goes on within a minute")
        while lock.exists() and _owner(lock) is None and (quiet := _quiet_for(lock)) < STALE_AFTER:
            time.sleep(min(PAUSE, STALE_AFTER - quiet))
        if lock.exists() and _owner(lock) is None:
            lock.unlink(missing_ok=True)
            console.say(f"{lock} was left by a build that was killed, and is removed")


def _locks() -> list[Path]:
    """In the folders of extensions, which lie in one for each kind of device below torch's own root."""
    from torch.utils.cpp_extension import get_default_build_root  # compilers and build tools come with it

    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root())
    return sorted(lock for pattern in (f"*/{LOCK}", f"*/*/{LOCK}") for lock in root.glob(pattern))


def _quiet_for(lock: Path) -> float:
    """Seconds since a file in the lock's folder was written."""
    written = 0.0
    for path in lock.parent.glob("*"):  # none where the folder is gone
        try:
            written = max(written, path.stat().st_mtime)
        except FileNotFoundError:  # gone in between
            continue
    return time.time() - written


def _owner(lock: Path) -> int | None:
    """A process of this user's, on this machine, that has the file open."""
    lock = lock.resolve()  # as the system names what is open
    for held in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if held.readlink() == lock:
                return int(held.parts[2])
        except OSError:  # ended in between, or another user's
            continue
    return None
