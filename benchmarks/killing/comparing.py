"""The numbers and files of two trials beside each other, to the last bit, but for what differs from run to run."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from utils.files import read_arrays
from utils.trials.files import CONFIG, LOG, RESULTS, SAMPLES

DIGESTS = ("sha256", "checksum", "computed_from", "environments", "nll_sha256", "arrays_sha256", "trial")
"""Fields with digests of what differs, or of a place."""
STATE = "state"
"""The array of nll.npz that is JSON."""
PLACES = ("rank", "nll_start")
"""Fields that say which rank has computed a line, and where it stood in a file."""
MEASURED = ("second", "memory", "prefill_tokens", "shared_tokens")
"""Parts of the names of fields that say what the work took: after a kill a prompt is read from its start again."""


def differences(log_dir: Path, reference: Path) -> list[str]:
    """What differs, by file; nothing where the two trials are the same."""
    mine, theirs = (files_of(folder) for folder in (log_dir, reference))
    found = [f"{name} is only in {'one' if name in mine else 'the reference'}" for name in sorted(mine ^ theirs)]
    return found + [name for name in sorted(mine & theirs) if content(log_dir / name) != content(reference / name)]


def files_of(log_dir: Path) -> set[str]:
    """All but the log, and the arguments, which name the log dir."""
    files = {path.relative_to(log_dir).as_posix() for path in log_dir.rglob("*") if path.is_file()}
    return files - {LOG, CONFIG}


def content(path: Path) -> Any:
    """The numbers of a file, in a form that can be compared."""
    if path.name == RESULTS:
        return plain(json.loads(path.read_text(encoding="utf-8")))
    if path.name == SAMPLES:
        lines = [plain(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
        return sorted(json.dumps(line, sort_keys=True) for line in lines)  # ranks may do them in another order
    if path.suffix == ".npz":
        arrays = read_arrays(path)
        state = plain(json.loads(str(arrays.pop(STATE)))) if STATE in arrays else None
        return state, {name: exact(array) for name, array in arrays.items()}
    return path.read_bytes()


def exact(array: np.ndarray) -> tuple[str, tuple[int, ...], bytes]:
    """An array to the last bit."""
    return array.dtype.str, array.shape, array.tobytes()


def plain(value: Any) -> Any:
    """A JSON value without what differs from run to run."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items() if not differs(name)}
    return [plain(part) for part in value] if isinstance(value, list) else value


def differs(name: str) -> bool:
    return name in (*DIGESTS, *PLACES) or any(part in name for part in MEASURED)
