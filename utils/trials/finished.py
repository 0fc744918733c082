"""Finished trials: what an evaluation script left in its log dir, read and checked."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import UserError
from utils.trials.files import ARRAYS, CONFIG, RESULTS, STREAM_ARRAYS
from utils.trials.nll_by_position import window_sums
from utils.trials.reading import read_json, read_position_arrays, read_stream_arrays


@dataclass(frozen=True)
class LoadedTrial(ABC):
    """One finished trial of any script that leaves arrays, and the label that pictures give it."""

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

    @property
    @abstractmethod
    def length(self) -> int:
        """Positions of the longest text."""


class FinishedTrial(LoadedTrial):
    """A trial of perplexity.

    arrays: sums of the NLL, in nats, by position, in tokens from 0, of the predicted token.
    """

    @property
    def tokens(self) -> int:
        """How many tokens were scored."""
        return int(self.totals(np.array([0, self.length]))[0].sum())

    @abstractmethod
    def totals(self, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Number of tokens and their NLL between neighbouring edges (int64), each of shape (streams, edges - 1)."""


class DocumentTrial(FinishedTrial):
    """Many documents. arrays: count (documents that reach a position), sum, sum_squares, each (positions,)."""

    @property
    def length(self) -> int:
        return len(self.arrays["count"])

    def totals(self, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As the base class says; all documents together are one stream."""
        edges = np.minimum(edges, self.length)
        tokens, nll = (window_sums(self.arrays[name], edges[:-1], edges[1:]) for name in ("count", "sum"))
        return tokens[None], nll[None]


class StreamTrial(FinishedTrial):
    """One or more endless streams. arrays: as `read_stream_arrays` tells."""

    @property
    def length(self) -> int:
        return int(self.arrays["linear_edges"][-1])

    @property
    def streams(self) -> int:
        return len(self.arrays["linear_count"])

    @property
    def bucket(self) -> int:
        """Positions in a linear bucket, of which only the last may hold fewer."""
        return int(self.arrays["linear_edges"][1])

    def totals(self, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As the base class says; edges are multiples of `bucket`, or beyond the last position."""
        places = np.searchsorted(self.arrays["linear_edges"], np.minimum(edges, self.length))
        tokens, nll = (window_sums(self.arrays[f"linear_{name}"], places[:-1], places[1:]) for name in ("count", "sum"))
        return tokens, nll


@dataclass(frozen=True)
class Kind:
    """How the trials of one script are read: into which class, and its arrays from which file."""

    trial: type[LoadedTrial]
    arrays_file: str
    read_arrays: Callable[[Path], dict[str, np.ndarray]]


SCRIPTS = {
    "eval_ppl_deepspeed": Kind(DocumentTrial, ARRAYS, read_position_arrays),
    "eval_infinite_ppl": Kind(StreamTrial, STREAM_ARRAYS, read_stream_arrays),
}


def load_trials(log_dirs: Sequence[str], labels: Sequence[str] | None = None) -> list[FinishedTrial]:
    """Read several trials, all of documents or all of streams; labels as `label_trials` gives them."""
    trials = [load_trial(log_dir, label) for log_dir, label in zip(log_dirs, label_trials(log_dirs, labels))]
    for other in trials[1:]:
        if type(other) is not type(trials[0]):
            documents, stream = sorted((trials[0], other), key=lambda trial: isinstance(trial, StreamTrial))
            raise UserError(
                f"{documents.log_dir} counts positions within documents and {stream.log_dir} within a stream of "
                "many: give trials of one kind"
            )
    return trials


def label_trials(log_dirs: Sequence[str], labels: Sequence[str] | None = None) -> Sequence[str]:
    """One label for each: `labels`, or the folders' names, or their paths where two names are alike."""
    if labels is None:
        names = [Path(log_dir).resolve().name for log_dir in log_dirs]
        labels = names if len(set(names)) == len(names) else list(log_dirs)
    if len(labels) != len(log_dirs):
        raise UserError(f"--labels: {len(labels)} given for {len(log_dirs)} log dirs, give one for each")
    return labels


def lengths_to_mark(trials: Sequence[LoadedTrial], override: int | None = None) -> list[int]:
    """The trials' pre-training lengths, ascending, or the override; only those that a text reaches past."""
    longest = max(trial.length for trial in trials)
    lengths = {override} if override else {trial.pretraining_length for trial in trials}
    return sorted(length for length in lengths if length and length < longest)


def load_trial(log_dir: str | Path, label: str | None = None) -> FinishedTrial:
    """Read one trial of perplexity; UserError as `read_log_dir` raises it."""
    return read_log_dir(log_dir, label, SCRIPTS, "measures no NLL by position")


def read_log_dir(log_dir: str | Path, label: str | None, kinds: dict[str, Kind], fault: str) -> LoadedTrial:
    """Read one trial; UserError names the file where the folder is missing, unfinished, damaged or foreign.

    kinds: by script. fault: what a script that is none of these does wrong.
    """
    folder = Path(log_dir)
    if not folder.is_dir():
        raise UserError(f"log dir {folder} is not a folder: give the --log_dir of a finished trial")
    config = read_json(folder / CONFIG)
    if not isinstance(config.get("arguments"), dict):
        raise UserError(f"{folder / CONFIG} holds no arguments: it is damaged, or no trial's config")
    script = str(config.get("script"))
    if script not in kinds:
        raise UserError(
            f"{folder / CONFIG} is of the script {script!r}, which {fault}: give a trial of {' or '.join(kinds)}"
        )
    kind = kinds[script]
    return kind.trial(
        log_dir=folder,
        label=folder.resolve().name if label is None else label,
        config=config,
        results=read_json(folder / RESULTS),
        arrays=kind.read_arrays(folder / kind.arrays_file),
    )
