"""The trials of a report: what their log dirs hold, read and checked, whichever script left them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from utils.errors import UserError
from utils.trials.files import CONFIG, RESULTS
from utils.trials.finished import FinishedTrial, label_trials, read_log_dir, refuse_repeated
from utils.trials.reading import DAMAGED
from visualization.drawing.looks import method_of
from visualization.reporting.kinds import KINDS, Kind
from visualization.reporting.numbers import Headline, Table

BETWEEN_PARTS = "--"
SHAPES: dict[str, tuple[type, ...]] = {
    "arguments": (dict,),
    "model": (dict,),
    "corpus": (dict,),
    "lambda_attention": (dict, type(None)),
    "versions": (dict, type(None)),
    "command": (list, type(None)),
}
"""Parts of config.json that a page is made of; what may be None may be missing."""


@dataclass(frozen=True)
class ReportTrial(FinishedTrial):
    """One trial of a report. evidence: what the pictures of its kind are drawn from."""

    label: str
    kind: Kind
    evidence: Any
    headline: Headline
    breakdown: Table


def load_report_trials(log_dirs: Sequence[str], labels: Sequence[str] | None = None) -> list[ReportTrial]:
    """Read the trials; UserError names the file that is missing, damaged or of another script, or a folder given twice.

    labels: as `label_trials` takes them; without them, names of a sweep's cells are shortened, and trials of one method
    follow each other, by length.
    """
    refuse_repeated(log_dirs)
    told = shorten_cells(label_trials(log_dirs)) if labels is None else label_trials(log_dirs, labels)
    trials = [_load(log_dir, _visible(label)) for log_dir, label in zip(log_dirs, told)]
    return by_method(trials) if labels is None else trials


def by_method(trials: Sequence[ReportTrial]) -> list[ReportTrial]:
    """The trials by task or text, method and length; tasks and methods in the order in which they come up."""
    texts, methods = ([describe(trial) for trial in trials] for describe in (_text, method_of))
    places = [
        (texts.index(text), methods.index(method), trial.headline.get("length", (0, None))[0] or 0)
        for text, method, trial in zip(texts, methods, trials)
    ]
    return [trials[place] for place in sorted(range(len(trials)), key=places.__getitem__)]


def _text(trial: ReportTrial) -> tuple[str, Any]:
    return trial.script, trial.config["corpus"].get("name")


def shorten_cells(labels: Sequence[str]) -> list[str]:
    """The labels, those like MODEL--TASK--LENGTH--METHOD without the parts that all of as many parts have."""
    cells = [label.split(BETWEEN_PARTS) for label in labels]
    alike = {len(cell): [other for other in cells if len(other) == len(cell)] for cell in cells}
    short = [
        BETWEEN_PARTS.join(part for part, others in zip(cell, zip(*alike[len(cell)])) if len(set(others)) > 1) or label
        for cell, label in zip(cells, labels)
    ]
    return short if len(set(short)) == len(short) else list(labels)


def _load(log_dir: str, label: str) -> ReportTrial:
    trial = read_log_dir(log_dir, KINDS)
    for name, types in SHAPES.items():
        if not isinstance(trial.config.get(name), types):
            raise UserError(f"{trial.log_dir / CONFIG} holds no {name} as a trial's does: {DAMAGED}")
    kind = KINDS[trial.script]
    return ReportTrial(
        **vars(trial),
        label=label,
        kind=kind,
        evidence=kind.load(trial, label),
        headline=kind.headline(trial),
        breakdown=kind.breakdown(trial.results, trial.log_dir / RESULTS),
    )


def _visible(label: str) -> str:
    """The label with what cannot be seen, or stand in a picture's XML, as its escape."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in label)
