"""Whether all ranks see the folder that the first one writes to: several hosts need a shared file system for that."""

import secrets
import socket
import time
from pathlib import Path

from utils.errors import SharedError
from utils.files import TEMPORARY_SUFFIX, make_log_dir, writing_to
from utils.ranks.runtime import Runtime

PATIENCE = 10.0
"""Seconds until a file must be seen from another host: file systems keep what they know of a folder for a while."""


def check_shared(folder: Path, needed: bool, runtime: Runtime) -> None:
    """Have every rank look for a file that the first one makes in the folder.

    needed: whether every rank keeps files there; then raises SharedError where one does not see it. Else only the first
    rank writes, and says where.
    """
    if runtime.world_size == 1:
        return
    token = runtime.broadcast(f"ranks-{secrets.token_hex(8)}{TEMPORARY_SUFFIX}")
    try:
        with runtime.together():
            if runtime.is_main:
                make_log_dir(folder)
                with writing_to(folder):
                    (folder / token).touch()
        seen = runtime.gather([socket.gethostname(), str(folder.absolute()), _appears(folder / token)])
        blind = runtime.broadcast([f"{host} ({path})" for host, path, appears in seen if not appears])
    finally:
        if runtime.is_main:
            (folder / token).unlink(missing_ok=True)
    if not blind:
        return
    others = ", ".join(dict.fromkeys(blind))
    where = runtime.broadcast(f"{socket.gethostname()} ({folder.absolute()})")
    if needed:
        raise SharedError(
            f"--log_dir {folder} is one folder on {where} and another on {others}: every rank keeps files there, so "
            "give one on a file system that all hosts share"
        )
    runtime.console.say(f"--log_dir {folder} is not shared: the results are on {where}, not on {others}")


def _appears(path: Path) -> bool:
    end = time.monotonic() + PATIENCE
    while not path.exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True
