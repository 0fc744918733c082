"""Trials of examples, set side by side: one method for each label, its examples grouped by their length."""

from collections.abc import Sequence
from dataclasses import dataclass

from utils.errors import UserError
from utils.trials.examples import ExampleTrial, read_trial
from utils.trials.experiments import DOWNSTREAM
from utils.trials.finished import label_trials, refuse_repeated
from utils.trials.samples import Sample
from visualization.drawing.looks import (
    Look,
    looks_of,
    marked,
    method_labels,
    method_of,
    source_words,
    text_name,
    told_apart,
)

METRIC_NAMES = {"f1": "F1", "rouge_geometric_mean": "ROUGE (geometric mean)"}
CORPUS = ("max_length", "seed")
"""Arguments by which trials of one task may have other examples under the same numbers."""
Place = tuple[object, ...]


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
    """The models and the task or texts, for a picture's title."""
    return source_words([trial for method in methods for trial in method.trials])


def measure_of(methods: Sequence[Method]) -> str:
    """What the scores are called: the metric, where all trials have one."""
    names = {trial.results.get("metric", "score") for method in methods for trial in method.trials}
    name = names.pop() if len(names) == 1 else "score"
    return METRIC_NAMES.get(name, name.replace("_", " "))


def count_words(counts: Sequence[int]) -> str:
    """The least and the largest of these numbers of examples, or the one that all are."""
    least, most = min(counts), max(counts)
    return f"{most:,} example{'s' if most > 1 else ''}" if least == most else f"{least:,} to {most:,} examples"


def looks(methods: Sequence[Method]) -> list[Look]:
    """Colour, line style and marker of each."""
    return marked(looks_of([method.trials[0] for method in methods]))


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


def join_by_method(trials: Sequence[ExampleTrial], labels: Sequence[str]) -> list[Method]:
    """Join trials of one task and text that are of one method with the same settings and have other examples.

    Each is called by its method, and where several are of one, by the label of its first trial, too.
    """
    _check_topics(trials)
    groups: list[list[int]] = []
    for place, trial in enumerate(trials):
        fitting = [group for group in groups if all(_belong_together(trials[other], trial) for other in group)]
        if fitting:
            fitting[0].append(place)
        else:
            groups.append([place])
    firsts = [group[0] for group in groups]
    names = method_labels([trials[first] for first in firsts])
    told = told_apart(names, [labels[first] for first in firsts])
    return [Method(name, tuple(trials[place] for place in group)) for name, group in zip(told, groups)]


def _belong_together(one: ExampleTrial, other: ExampleTrial) -> bool:
    same = _facts(one) == _facts(other) and text_name(one) == text_name(other)
    return same and _places(one).isdisjoint(_places(other))


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


def _places(trial: ExampleTrial) -> set[Place]:
    """Where each example of a trial comes from."""
    corpus = tuple(trial.arguments.get(name) for name in CORPUS)
    return {(*corpus, sample["index"], sample.get("position")) for sample in trial.samples}


def _check_method(method: Method) -> None:
    first, places = method.trials[0], set[Place]()
    for trial in method.trials:
        for fact, value in _facts(trial).items():
            if value != _facts(first)[fact]:
                raise UserError(
                    f"{first.log_dir} and {trial.log_dir} are both called {method.label!r} and differ in their {fact}: "
                    "give each its own name with --labels"
                )
        for place in _places(trial):
            if place in places:
                raise UserError(
                    f"{trial.log_dir} has an example that another trial called {method.label!r} has, too (number "
                    f"{place[len(CORPUS)]}): give it once, or another name with --labels"
                )
        places |= _places(trial)
    if not method.samples:
        raise UserError(f"all examples of {first.log_dir} failed: there is nothing to show of this trial")
