"""Checkpoints of streams: folders that appear whole or not at all, checked on load, of which two are kept.

checkpoint-NUMBER/ holds stream_0000.safetensors, ... (cache, hidden state and sums of one stream each, written by the
rank that owns it) and checkpoint.json: the cursors, what was measured, and the SHA-256 of every file and of itself.
"""

import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from utils.console import Console
from utils.errors import UserError
from utils.files import TEMPORARY_SUFFIX, replace_json, sync_file, sync_folder, writing_to
from utils.trials.files import CHECKPOINT

KEPT = 2
STATE = "checkpoint.json"
TRIAL = "trial"
"""Key of the state: that of the trial's checksums."""
NAME = re.compile(CHECKPOINT + r"(\d{9,})")


@dataclass(frozen=True)
class Checkpoint:
    """One that was found whole. state: what `commit` was given."""

    folder: Path
    state: dict[str, Any]

    def tensors(self, stream: int) -> dict[str, Tensor]:
        """The tensors that were saved of one stream, on the CPU. Raises UserError where this rank cannot read it."""
        path = self.folder / _file_name(stream)
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} cannot be read ({error}): all ranks must share the disk of --log_dir") from None


class StreamCheckpoints:
    """The checkpoints in a log dir. Every rank saves its streams between `begin` and `commit` of the first rank."""

    def __init__(self, log_dir: Path) -> None:
        self.log_dir = log_dir

    def begin(self, number: int) -> None:
        """Make room for checkpoint `number`, which does not count before `commit`."""
        with writing_to(self.log_dir):
            shutil.rmtree(self._unfinished(number), ignore_errors=True)
            self._unfinished(number).mkdir()

    def save(self, number: int, stream: int, tensors: dict[str, Tensor]) -> dict[str, str]:
        """Write one stream's tensors; returns {file name: SHA-256} for `commit`."""
        path = self._unfinished(number) / _file_name(stream)
        with writing_to(self.log_dir):
            try:
                save_file(tensors, path)
            except SafetensorError as error:
                raise OSError(str(error)) from None
            sync_file(path)
            return {path.name: _sha256(path)}

    def commit(self, number: int, state: dict[str, Any], digests: dict[str, str]) -> None:
        """Make checkpoint `number` count, with `state` (JSON), and remove what is older than the one before."""
        state = {**state, "files": digests}
        unfinished, folder = self._unfinished(number), self.log_dir / f"{CHECKPOINT}{number:09d}"
        with writing_to(self.log_dir):
            replace_json(unfinished / STATE, {**state, "sha256": _digest(state)})
            unfinished.rename(folder)
            sync_folder(self.log_dir)
            for _, old in self._numbered()[KEPT:]:
                _remove(old)

    def newest(self, console: Console, key: str | None = None) -> Checkpoint | None:
        """The newest whole checkpoint, None where there is none; damaged ones that are newer are named and removed.

        key: of the trial; another trial's checkpoint counts as damaged. Raises UserError where all are damaged. Removes
        what a kill left unfinished.
        """
        with writing_to(self.log_dir):
            self._remove_unfinished()
        damaged: list[Path] = []
        for folder in self.folders():
            reason, state = examine(folder, key)
            if state is not None:
                with writing_to(self.log_dir):
                    for path in damaged:
                        _remove(path)
                return Checkpoint(folder, state)
            console.say(f"{folder} is damaged ({reason}): looking for the one before it")
            damaged.append(folder)
        if damaged:
            raise UserError(
                f"no checkpoint in --log_dir {self.log_dir} is whole (newest: {damaged[0].name}): --repair or "
                "--overwrite begin anew"
            )
        return None

    def folders(self) -> list[Path]:
        """Those that were committed, newest first."""
        return [folder for _, folder in self._numbered()]

    def remove(self, folder: Path) -> None:
        """Remove one of them."""
        with writing_to(self.log_dir):
            _remove(folder)

    def remove_all(self) -> None:
        """A finished trial needs none."""
        for folder in self.folders():
            self.remove(folder)
        with writing_to(self.log_dir):
            self._remove_unfinished()

    def _unfinished(self, number: int) -> Path:
        return self.log_dir / f"{CHECKPOINT}{number:09d}{TEMPORARY_SUFFIX}"

    def _numbered(self) -> list[tuple[int, Path]]:
        """Committed checkpoints, newest first."""
        matches = ((NAME.fullmatch(path.name), path) for path in self.log_dir.iterdir())
        return sorted(((int(match[1]), path) for match, path in matches if match), reverse=True)

    def _remove_unfinished(self) -> None:
        for path in self.log_dir.glob(f"{CHECKPOINT}*{TEMPORARY_SUFFIX}"):
            shutil.rmtree(path)


def _remove(folder: Path) -> None:
    """Killed in the middle of it, what is left does not count as a checkpoint."""
    shutil.rmtree(folder.rename(folder.with_name(folder.name + TEMPORARY_SUFFIX)))


def examine(folder: Path, key: str | None = None) -> tuple[str | None, dict[str, Any] | None]:
    """(why a checkpoint is damaged, None) or (None, its state). key: of the trial that it must be of."""
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        if state.pop("sha256") != _digest(state):
            return f"{STATE} is not as it was written", None
        if key is not None and state.get(TRIAL, key) != key:
            return "it is another trial's", None
        for name, digest in state["files"].items():
            if _sha256(folder / name) != digest:
                return f"{name} is not as it was written", None
    except OSError as error:
        name = Path(error.filename or folder).name  # reading, unlike opening, does not say which file failed
        return f"{name} cannot be read: {error.strerror}", None
    except (ValueError, KeyError, AttributeError, TypeError):
        return f"{STATE} cannot be read as JSON of a checkpoint", None
    return None, state


def _file_name(stream: int) -> str:
    return f"stream_{stream:04d}.safetensors"


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
