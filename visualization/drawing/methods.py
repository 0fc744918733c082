"""Trials of examples, set side by side: one method for each label, its examples grouped by their length."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from utils.errors import UserError
from utils.trials.examples import ExampleTrial, read_trial
from utils.trials.experiments import DOWNSTREAM
from utils.trials.finished import label_trials, refuse_repeated
from utils.trials.samples import Sample
from visualization.drawing.looks import Look, looks_of, marked, method_labels, method_of, model_name
from visualization.drawing.style import MARKERS, line_look

LABELS = (
    "a name for each LOG_DIR, in the same order; log dirs of one name are drawn as one, such as a method's trials at "
    "several lengths (default: the names of their methods)"
)
MOST_GROUPS = 12
CORPUS = ("max_length", "seed")
"""Arguments by which trials of one task may have other examples under the same numbers."""


@dataclass(frozen=True)
class Method:
    """The trials of one label."""

    label: str
    trials: tuple[ExampleTrial, ...]

    @property
    def samples(self) -> list[Sample]:
        """Examples of all trials that did not fail."""
        return [sample for trial in self.trials for sample in finished(trial)]

    @property
    def pretraining_length(self) -> int | None:
        """Number of tokens the model was pre-trained on at once, where config.json tells it."""
        return self.trials[0].pretraining_length

    @property
    def length(self) -> int:
        """Tokens of the longest text."""
        return max(length_of(sample) for sample in self.samples)


def finished(trial: ExampleTrial) -> list[Sample]:
    """The examples that did not fail."""
    return [sample for sample in trial.samples if sample["error"] is None]


def length_of(sample: Sample) -> int:
    """Tokens of its prompt, or in front of what was generated."""
    return sample["length"] if "length" in sample else sample["position"]


def words_of(methods: Sequence[Method]) -> str:
    """The model, where all have one, and the task, for a picture's title."""
    models = {model_name(trial) for method in methods for trial in method.trials}
    task = methods[0].samples[0].get("task")
    return ", ".join([*(models if len(models) == 1 else ()), *([task] if task else ())])


def looks(methods: Sequence[Method]) -> list[Look]:
    """Colour, line style and marker of each."""
    return marked(looks_of([method.trials[0] for method in methods]))


def method_look(index: int) -> dict[str, object]:
    """Colour, line style and marker of the index-th method."""
    return line_look(index) | {"marker": MARKERS[index % len(MARKERS)], "markersize": 3}


def load_methods(
    log_dirs: Sequence[str], labels: Sequence[str] | None = None, scripts: Sequence[str] = (DOWNSTREAM,)
) -> list[Method]:
    """Read trials of one of these scripts and join those of one label; UserError as `join_trials` raises it."""
    refuse_repeated(log_dirs)
    trials = [read_trial(log_dir, scripts) for log_dir in log_dirs]
    return join_trials(trials, label_trials(log_dirs, method_labels(trials) if labels is None else labels))


def join_trials(trials: Sequence[ExampleTrial], labels: Sequence[str]) -> list[Method]:
    """Join trials of one task by their labels, in the order of these.

    Raises UserError where they are not of one task, or those of one label differ in more than their examples.
    """
    _check_topics(trials)
    joined: dict[str, list[ExampleTrial]] = {}
    for label, trial in zip(labels, trials):
        joined.setdefault(label, []).append(trial)
    methods = [Method(label, tuple(group)) for label, group in joined.items()]
    for method in methods:
        _check_method(method)
    return methods


def _check_topics(trials: Sequence[ExampleTrial]) -> None:
    for trial in trials:
        if _topic(trial) != _topic(trials[0]):
            raise UserError(
                f"{trials[0].log_dir} is of {_topic(trials[0])} and {trial.log_dir} of {_topic(trial)}: give trials of "
                "one kind"
            )


def _topic(trial: ExampleTrial) -> str:
    return trial.samples[0].get("task", trial.script)


def _facts(trial: ExampleTrial) -> dict[str, object]:
    """Facts that trials of one label must have in common."""
    config = trial.config
    return {"method": method_of(trial), "Λ-attention": config.get("lambda_attention"), "model": config["model"]}


def _check_method(method: Method) -> None:
    first, places = method.trials[0], set()
    for trial in method.trials:
        for fact, value in _facts(trial).items():
            if value != _facts(first)[fact]:
                raise UserError(
                    f"{first.log_dir} and {trial.log_dir} are both called {method.label!r} and differ in their {fact}: "
                    "give each its own name with --labels"
                )
        trial_place = tuple(trial.arguments.get(name) for name in CORPUS)
        for sample in trial.samples:
            place = (*trial_place, sample["index"], sample.get("position"))
            if place in places:
                raise UserError(
                    f"{trial.log_dir} has an example that another trial called {method.label!r} has, too (number "
                    f"{sample['index']}): give it once, or another name with --labels"
                )
            places.add(place)
    if not method.samples:
        raise UserError(f"all examples of {first.log_dir} failed: there is nothing to show of this trial")


def group_starts(methods: Sequence[Method], most: int = MOST_GROUPS) -> np.ndarray:
    """The shortest lengths of groups of about equal length, ascending, int64, so that all methods have the same ones.

    A group's lengths lie within 2% of its shortest, or within so much more that there are at most `most` groups.
    """
    lengths = np.unique([length_of(sample) for method in methods for sample in method.samples])
    ratio = 1.02
    while len(starts := _starts(lengths, ratio)) > most:
        ratio **= 2
    return starts


def _starts(lengths: np.ndarray, ratio: float) -> np.ndarray:
    starts = [lengths[0]]
    for length in lengths:
        if length > ratio * starts[-1]:
            starts.append(length)
    return np.array(starts, dtype=np.int64)


def group_of(samples: Sequence[Sample], starts: np.ndarray) -> np.ndarray:
    """The group of each example, from 0; int64 `[samples]`."""
    return np.searchsorted(starts, [length_of(sample) for sample in samples], side="right") - 1


def mean_lengths(methods: Sequence[Method], starts: np.ndarray) -> np.ndarray:
    """The mean length of each group over all methods, tokens, `[groups]`."""
    samples = [sample for method in methods for sample in method.samples]
    groups = group_of(samples, starts)
    lengths = np.array([length_of(sample) for sample in samples], dtype=np.float64)
    return np.bincount(groups, lengths, len(starts)) / np.bincount(groups, minlength=len(starts))
