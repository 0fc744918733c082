"""A folder that appears whole or not at all."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from ..errors import UserError

TEMPORARY_SUFFIX = ".partial"


@contextmanager
def whole_folder(flag: str, output: Path) -> Iterator[Path]:
    """A new folder beside `output` to fill: renamed to `output` when the block ends well, else removed.

    `output` must not be there, or be empty. flag: what names it on the command line. Raises UserError, also for an
    OSError within the block.
    """
    target = output.resolve()
    partial = target.with_name(target.name + TEMPORARY_SUFFIX)
    try:
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise UserError(f"{flag} {output} is there already: give another folder, or remove it")
        partial.mkdir(parents=True, exist_ok=True)
        with _held(flag, partial), _renamed(partial, target):
            yield partial
    except OSError as error:
        raise UserError(f"{flag} {output} cannot be written ({error.strerror}): give another folder") from None


@contextmanager
def _renamed(partial: Path, target: Path) -> Iterator[None]:
    """Empty `partial`, then have it on disk as `target` if the block ends well, else removed."""
    try:
        for path in partial.iterdir():  # left by a run that was killed
            path.unlink()
        yield
        for path in partial.iterdir():
            _sync(path)
        _sync(partial)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _sync(target.parent)


def _sync(path: Path) -> None:
    """Have a file or a folder on disk; some file systems cannot sync a folder, and then there is nothing to do."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError) if path.is_dir() else nullcontext():
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _held(flag: str, folder: Path) -> Iterator[None]:
    """Hold `folder` against a second run that was started meanwhile."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(flag, folder, descriptor)
        yield
    finally:
        os.close(descriptor)


def _lock(flag: str, folder: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{flag}: another run is writing {folder}: wait for it, or give another folder") from None
