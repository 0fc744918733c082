"""Finished trials read back from their log dirs: the one reader, whose trials others show in their own way."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from utils.errors import UserError
from utils.trials.evidence import refuse_damage
from utils.trials.experiments import EXPERIMENTS, Experiment
from utils.trials.files import CONFIG, RESULTS, SAMPLES
from utils.trials.reading import read_json
from utils.trials.samples import Sample, read_samples
from utils.trials.seals import Seals


@dataclass(frozen=True)
class FinishedTrial:
    """A finished trial of any experiment. Its samples and arrays are read when they are asked for, and not kept."""

    log_dir: Path
    config: dict[str, Any]
    results: dict[str, Any]

    @property
    def script(self) -> str:
        """A key of EXPERIMENTS."""
        return self.config["script"]

    @property
    def experiment(self) -> Experiment:
        return EXPERIMENTS[self.script]

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments it was run with, by flag name without dashes."""
        return self.config["arguments"]

    @property
    def pretraining_length(self) -> int | None:
        """Number of tokens the model was pre-trained on at once, where config.json tells it."""
        return (self.config.get("model") or {}).get("pretraining_length")

    @property
    def indices(self) -> range:
        """The documents of the corpus that it selected."""
        start = self.arguments.get("start_data_from") or 0
        return range(start, start + self.config["corpus"]["documents"])

    def read_samples(self) -> list[Sample]:
        """The lines of samples.jsonl, checked; none of an experiment whose lines are its own."""
        lines = self.experiment.lines
        if lines is None:
            return []
        return read_samples(self.log_dir / SAMPLES, lines, self.indices, self.results, Seals.of(self.config))

    def read_arrays(self) -> dict[str, np.ndarray]:
        """The arrays of an experiment that leaves any, checked."""
        arrays = self.experiment.arrays
        return arrays.read(self.log_dir / arrays.name)


def read_log_dir(log_dir: str | Path, scripts: Iterable[str] = tuple(EXPERIMENTS), fault: str = "") -> FinishedTrial:
    """Read one trial; UserError names the file where the folder is missing, unfinished, damaged or foreign.

    scripts: those that will do, of EXPERIMENTS. fault: why others will not, as "which measures no NLL".
    """
    folder = Path(log_dir)
    if not folder.is_dir():
        raise UserError(f"log dir {folder} is not a folder: give the --log_dir of a finished trial")
    config, scripts = read_json(folder / CONFIG), tuple(scripts)
    if not isinstance(config.get("arguments"), dict):
        raise UserError(f"{folder / CONFIG} holds no arguments: it is damaged, or no trial's config")
    if config.get("script") not in scripts:
        script, reason = config.get("script"), f", {fault}" if fault else ""
        raise UserError(f"{folder / CONFIG} is of the script {script!r}{reason}: give trials of {' or '.join(scripts)}")
    seals, results = Seals.of(config), read_json(folder / RESULTS)
    seals.check(config, folder / CONFIG)
    refuse_damage(folder, results, seals)
    return FinishedTrial(folder, config, results)


def refuse_repeated(log_dirs: Sequence[str]) -> None:
    """Raise UserError where one folder is given twice."""
    folders = [Path(log_dir).resolve() for log_dir in log_dirs]
    for folder, log_dir in zip(folders, log_dirs):
        if folders.count(folder) > 1:
            raise UserError(f"log dir {log_dir} is given twice: give each once")


@dataclass(frozen=True)
class LoadedTrial(FinishedTrial, ABC):
    """A finished trial with its arrays, and the label that pictures give it."""

    label: str
    arrays: dict[str, np.ndarray]

    @classmethod
    def of(cls, trial: FinishedTrial, label: str | None = None) -> Self:
        """The trial with its arrays, read and checked; without a label it has its folder's name."""
        name = trial.log_dir.resolve().name if label is None else label
        return cls(**vars(trial), label=name, arrays=trial.read_arrays())

    @property
    @abstractmethod
    def length(self) -> int:
        """Positions of the longest text."""


def _ends(folders: Sequence[Path], depth: int) -> list[str]:
    """The last parts of each path, so many of them."""
    return [str(Path(*folder.parts[-depth:])) for folder in folders]


def label_trials(log_dirs: Sequence[str], labels: Sequence[str] | None = None) -> Sequence[str]:
    """One label for each: `labels`, or the folders' names, after as many of the folders above as tell them apart."""
    if labels is None:
        folders = [Path(log_dir).resolve() for log_dir in log_dirs]
        depth = 1
        while len(set(labels := _ends(folders, depth))) < len(set(folders)):
            depth += 1
    if len(labels) != len(log_dirs):
        raise UserError(f"--labels: {len(labels)} given for {len(log_dirs)} log dirs, give one for each")
    return labels


class Drawn(Protocol):
    """Anything with texts that pictures draw against length."""

    @property
    def length(self) -> int: ...

    @property
    def pretraining_length(self) -> int | None: ...


def lengths_to_mark(trials: Sequence[Drawn], override: int | None = None) -> list[int]:
    """The trials' pre-training lengths, ascending, or the override; only those that a text reaches past."""
    longest = max(trial.length for trial in trials)
    lengths = {override} if override else {trial.pretraining_length for trial in trials}
    return sorted(length for length in lengths if length and length < longest)
