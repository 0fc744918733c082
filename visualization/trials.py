"""Reading trials: the files that an evaluation script leaves in its log dir."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import UserError

POSITION_ARRAYS = ("count", "sum", "sum_squares")
DAMAGED = "it is damaged, run the trial again with --overwrite"


@dataclass(frozen=True)
class FinishedTrial:
    """One finished trial.

    arrays: what nll.npz holds, each of shape (positions,); index p is the position, in tokens from 0, of the
    predicted token. count (documents that reach p), sum and sum_squares (of their NLL, in nats) are there.
    """

    log_dir: Path
    label: str
    config: dict[str, Any]
    results: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments the trial was run with, by flag name without dashes."""
        return self.config["arguments"]

    @property
    def pretraining_length(self) -> int | None:
        """Number of tokens the model was pre-trained on at once, where config.json tells it."""
        return (self.config.get("model") or {}).get("pretraining_length")


def load_trials(log_dirs: Sequence[str], labels: Sequence[str] | None = None) -> list[FinishedTrial]:
    """Read several trials; labels default to the folders' names, or their paths where two names are alike."""
    if labels is None:
        names = [Path(log_dir).resolve().name for log_dir in log_dirs]
        labels = names if len(set(names)) == len(names) else list(log_dirs)
    if len(labels) != len(log_dirs):
        raise UserError(f"--labels: {len(labels)} given for {len(log_dirs)} log dirs, give one for each")
    return [load_trial(log_dir, label) for log_dir, label in zip(log_dirs, labels)]


def lengths_to_mark(trials: Sequence[FinishedTrial], override: int | None = None) -> list[int]:
    """The trials' pre-training lengths, ascending, or the override; only those that a text reaches past."""
    longest = max(len(trial.arrays["count"]) for trial in trials)
    lengths = {override} if override else {trial.pretraining_length for trial in trials}
    return sorted(length for length in lengths if length and length < longest)


def load_trial(log_dir: str | Path, label: str | None = None) -> FinishedTrial:
    """Read one trial; UserError names the file where the folder is missing, unfinished or damaged."""
    folder = Path(log_dir)
    if not folder.is_dir():
        raise UserError(f"log dir {folder} is not a folder: give the --log_dir of a finished trial")
    config = _read_json(folder / "config.json")
    if not isinstance(config.get("arguments"), dict):
        raise UserError(f"{folder / 'config.json'} holds no arguments: it is damaged, or no trial's config")
    return FinishedTrial(
        log_dir=folder,
        label=folder.resolve().name if label is None else label,
        config=config,
        results=_read_json(folder / "results.json"),
        arrays=_read_position_arrays(folder / "nll.npz"),
    )


def _read_json(path: Path) -> dict[str, Any]:
    _require(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}): {DAMAGED}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object: {DAMAGED}")
    return content


def _read_position_arrays(path: Path) -> dict[str, np.ndarray]:
    _require(path)
    arrays = _read_npz(path)
    missing = [name for name in POSITION_ARRAYS if name not in arrays]
    if missing:
        raise UserError(f"{path} lacks the array {missing[0]!r}: it is damaged, or no trial's nll.npz")
    if any(array.ndim != 1 or array.shape != arrays["count"].shape for array in arrays.values()):
        raise UserError(f"{path} holds arrays that are not of one length: {DAMAGED}")
    if not np.any(arrays["count"] > 0):
        raise UserError(f"{path} holds no scored token: there is nothing to show of this trial")
    if not all(np.isfinite(arrays[name]).all() for name in POSITION_ARRAYS):
        raise UserError(f"{path} holds sums that are not finite: it is damaged, or the model gave NaN")
    return arrays


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # damaged archives fail in a dozen ways: zip, zlib, header, memory, encoding
        raise UserError(f"{path} cannot be read as an npz file of arrays: {DAMAGED}") from error
    return {name: array for name, array in arrays.items() if array.dtype.kind in "iuf"}


def _require(path: Path) -> None:
    if not path.is_file():
        raise UserError(
            f"{path.parent} has no {path.name}: the trial is not finished, run it again with the same "
            "arguments to finish it"
        )
