"""Files that are replaced whole or not at all, and survive a power cut once the call has returned."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from utils.errors import UserError

TEMPORARY_SUFFIX = ".partial"


@contextmanager
def writing_to(log_dir: Path) -> Iterator[None]:
    """Report an OSError within as a UserError about --log_dir."""
    try:
        yield
    except OSError as error:
        refuse_removed(log_dir)
        raise _unwritable(log_dir, error) from None


def refuse_removed(log_dir: Path) -> None:
    """Raise UserError where the folder is gone."""
    if not log_dir.exists():
        raise UserError(f"--log_dir {log_dir} was removed while this ran: what was in it is lost")


def make_log_dir(log_dir: Path) -> None:
    """Make the folder where it is not there yet. Raises UserError."""
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(log_dir, error) from None


def _unwritable(log_dir: Path, error: OSError) -> UserError:
    return UserError(
        f"--log_dir {log_dir} cannot be written ({error.strerror or error}): what is there is kept, so mend that "
        "and give the same command again, or give another folder"
    )


def replace_file(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Have `write` fill a temporary file beside `path`, then rename it over `path`. Raises OSError."""
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)  # half a file must not take the room that is lacking
        raise
    sync_folder(path.parent)


def replace_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN is refused with a ValueError: JSON has none."""
    text = json_text(value, indent=2) + "\n"
    replace_file(path, lambda file: file.write(text.encode()))


def json_text(value: Any, indent: int | None = None) -> str:
    """`value` as readable JSON that can be encoded: half a surrogate, from a file's name, becomes its escape."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    return text.encode(errors="backslashreplace").decode()


def replace_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write named arrays as .npz, atomically and without pickle."""
    replace_file(path, lambda file: np.savez(file, allow_pickle=False, **arrays))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file. Raises OSError or ValueError (zipfile.BadZipFile too) on a damaged one."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def append_lines(path: Path, lines: list[str], sync: bool = True) -> None:
    """Append lines; with `sync` they are on disk when this returns."""
    with open(path, "a", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)
        file.flush()
        if sync:
            os.fsync(file.fileno())


def sync_file(path: Path) -> None:
    """Have what was written to `path` on disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make a rename last; some file systems cannot sync a folder, and then there is nothing to do."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
