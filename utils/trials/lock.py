"""Keeping a second run out of a log dir: a lock of the file system, or where it has none a file that says who runs."""

import fcntl
import json
import os
import socket
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from typing import IO

from utils.console import Console
from utils.errors import UserError
from utils.files import TEMPORARY_SUFFIX
from utils.program import USER_ERROR_STATUS, end_process
from utils.trials.files import LOG, RUNNING

BEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
"""Who has not touched the file for so long has ended."""


class FolderLock:
    """Held for as long as this object lives. Raises UserError where another run holds it, OSError of the log file."""

    def __init__(self, folder: Path, console: Console) -> None:
        self.file: IO[str] = open(folder / LOG, "a", encoding="utf-8")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"--log_dir {folder} is in use by another run: wait for it or give another folder"
            ) from None
        except OSError:
            path = folder / RUNNING
            _take(path)
            console.say(f"{folder} is on a file system without locks: {RUNNING} says who runs there")
            stopped = threading.Event()
            weakref.finalize(self, _release, stopped, path)
            threading.Thread(target=_beat, args=(stopped, path, console), daemon=True).start()


def _take(path: Path) -> None:
    """Make the file, unless another run that lives has it. Raises UserError, OSError."""
    if path.exists() and not _has_ended(path):
        raise UserError(
            f"--log_dir {path.parent} is in use by another run ({_holder(path)}): wait for it or give another folder; "
            f"where that has ended, {path.name} counts for {STALE_SECONDS:g} seconds"
        )
    path.unlink(missing_ok=True)
    try:
        with open(path, "x", encoding="utf-8") as file:
            json.dump(_own(), file)
    except FileExistsError:
        raise UserError(f"--log_dir {path.parent} is in use by another run ({_holder(path)}): wait for it") from None


def _has_ended(path: Path) -> bool:
    """Whether its run has: by the clock of the file system, or because this host has no such process."""
    probe = path.with_name(path.name + TEMPORARY_SUFFIX)
    probe.touch()
    now = probe.stat().st_mtime
    probe.unlink(missing_ok=True)
    if now - path.stat().st_mtime > STALE_SECONDS:
        return True
    with suppress(OSError, ValueError, KeyError, TypeError):
        holder = json.loads(path.read_text(encoding="utf-8"))
        return holder["host"] == socket.gethostname() and not Path(f"/proc/{int(holder['process'])}").exists()
    return False


def _holder(path: Path) -> str:
    with suppress(OSError, ValueError, KeyError, TypeError):
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"process {holder['process']} on {holder['host']}"
    return "on another host"


def _own() -> dict[str, str | int]:
    """What the file says of this run."""
    return {"host": socket.gethostname(), "process": os.getpid()}


def _is_own(path: Path) -> bool:
    """Whether it says so; a file that cannot be read is nobody else's."""
    with suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8")) == _own()
    return True


def _beat(stopped: threading.Event, path: Path, console: Console) -> None:
    """Ends the process where another run has taken the folder: this one stood still for long, or both came at once."""
    while not stopped.wait(BEAT_SECONDS):
        if not _is_own(path):
            console.fail(f"--log_dir {path.parent} is in use by another run, which took this one to have ended")
            end_process(None, USER_ERROR_STATUS)
        with suppress(OSError):
            os.utime(path)


def _release(stopped: threading.Event, path: Path) -> None:
    stopped.set()
    if _is_own(path):
        path.unlink(missing_ok=True)
