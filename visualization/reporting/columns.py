"""The comparison of the trials of a report, one row each, and where their arguments differ."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from utils.trials.versions import describe, differ, environments
from visualization.drawing.looks import display_name
from visualization.reporting.numbers import Quantity, Spread, quantities_of
from visualization.reporting.trials import ReportTrial
from visualization.reporting.words import argument_text, settings_words

LONG = 26  # letters: a date and a time fit into one line
UNCOMPARED = ("log_dir",)
"""Arguments that are each trial's own."""


@dataclass(frozen=True)
class Cell:
    """text: what is shown; key: what the column sorts by, a number or text. Both are empty where there is nothing."""

    text: str = ""
    key: str = ""


@dataclass(frozen=True)
class Column:
    """A heading and a cell for each trial. note: what the column holds, where its heading does not say it."""

    heading: str
    numeric: bool
    note: str
    cells: list[Cell]

    @property
    def long(self) -> bool:
        """Whether its text should be broken into lines."""
        return max(len(cell.text) for cell in self.cells) > LONG


@dataclass(frozen=True)
class Comparison:
    """The table of the trials of one script: columns beside that of labels, and where each trial stands on the page."""

    measures: str
    trials: list[ReportTrial]
    places: list[int]
    columns: list[Column]


def comparisons(trials: Sequence[ReportTrial]) -> list[Comparison]:
    """A table for each script, in the order of the trials."""
    found = []
    for script in dict.fromkeys(trial.script for trial in trials):
        places = [place for place, trial in enumerate(trials) if trial.script == script]
        own = [trials[place] for place in places]
        found.append(Comparison(own[0].kind.measures, own, places, compare(own)))
    return found


def compare(trials: Sequence[ReportTrial]) -> list[Column]:
    """The columns that any trial has something in, the results right after the method."""
    method = Column("Method", False, "", [_text_cell(display_name(trial)) for trial in trials])
    measured = [
        Column(quantity.heading, True, quantity.note, [_number_cell(trial, name, quantity) for trial in trials])
        for name, quantity in quantities_of([trial.headline for trial in trials]).items()
    ]
    described = [
        Column(heading, False, "", [_text_cell(describe(trial.config)) for trial in trials])
        for heading, describe in DESCRIPTIONS.items()
    ]
    columns = (method, *measured, *described, *_versions(trials))
    return [column for column in columns if any(cell.text for cell in column.cells)]


def _versions(trials: Sequence[ReportTrial]) -> list[Column]:
    """A column that marks trials whose versions differ; none where they are the same throughout."""
    took_part = [environments(trial.config) for trial in trials]
    if not differ(took_part):
        return []
    note = "Packages and commit that computed the trial, one after the other where it went on with others."
    return [Column("Versions differ", False, note, [_text_cell(describe(one)) for one in took_part])]


def _dtype(config: dict[str, Any]) -> Any:
    dtype = config["model"].get("dtype")
    return f"{dtype}, 4-bit weights" if config["arguments"].get("load_in_4bit") else dtype


def _started(config: dict[str, Any]) -> str:
    """Start of the trial, as 2026-01-31 12:34, in the time zone it was written in, UTC."""
    return str(config.get("started") or "")[:16].replace("T", " ")


DESCRIPTIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "Settings": settings_words,
    "Model": lambda config: config["model"].get("name"),
    "Dtype": _dtype,
    "Dataset": lambda config: config["corpus"].get("name"),
    "Device": lambda config: config.get("device"),
    "Started (UTC)": _started,
}


def _text_cell(value: Any) -> Cell:
    text = "" if value is None else str(value)
    return Cell(text, text)


def _number_cell(trial: ReportTrial, name: str, quantity: Quantity) -> Cell:
    value, spread = trial.headline.get(name, (None, None))
    if value is None:
        return Cell()
    return Cell(quantity.show(value) + _spread(spread, quantity), repr(float(value)))


def _spread(spread: Spread, quantity: Quantity) -> str:
    if spread is None:
        return ""
    if isinstance(spread, tuple):
        return f" [{quantity.show(spread[0])}, {quantity.show(spread[1])}]"
    return f" ± {quantity.show(spread)}"


def differing_arguments(trials: Sequence[ReportTrial]) -> list[str]:
    """Names of the arguments that differ between trials of one script, in the order of the first trial that has them.

    An argument that a trial does not know is one that was not given.
    """
    names: dict[str, set[tuple[str, str]]] = {}
    for trial in trials:
        for name in trial.arguments:
            names.setdefault(name, set())
    for name, values in names.items():
        values |= {(trial.script, json.dumps(trial.arguments.get(name), sort_keys=True)) for trial in trials}
    scripts = len({trial.script for trial in trials})
    return [name for name, values in names.items() if len(values) > scripts and name not in UNCOMPARED]


def argument_rows(trial: ReportTrial, names: Sequence[str]) -> list[tuple[str, str]]:
    """Flag and value of each of these arguments that the trial has."""
    return [(f"--{name}", argument_text(trial.arguments[name])) for name in names if name in trial.arguments]
