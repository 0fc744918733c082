"""The trials of a report: what their log dirs hold, read and checked, whichever script left them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from utils.errors import UserError
from utils.trials.files import CONFIG, RESULTS
from utils.trials.finished import FinishedTrial, label_trials, read_log_dir, refuse_repeated
from utils.trials.reading import DAMAGED
from visualization.reporting.kinds import KINDS, Kind
from visualization.reporting.numbers import Headline, Table

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

    labels: as `label_trials` takes them.
    """
    refuse_repeated(log_dirs)
    labels = label_trials(log_dirs, labels)
    return [_load(log_dir, _visible(label)) for log_dir, label in zip(log_dirs, labels)]


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
