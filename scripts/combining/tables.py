"""Records as a table: columns of text, Markdown, LaTeX, CSV or JSON."""

import csv
import io
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from utils.files import json_text
from utils.text_tables import Row, as_latex, as_markdown, as_text, format_spread

ERROR_SUFFIX, LOW_SUFFIX, HIGH_SUFFIX = "_standard_error", "_interval_low", "_interval_high"
SUFFIXES = (ERROR_SUFFIX, LOW_SUFFIX, HIGH_SUFFIX)
NOTHING = "-"
BLOCK = ("model", "task", "metric")
"""What the methods of one block of a table of methods have in common."""
RULE = ""
Record = dict[str, Any]
"""One row, all of them with the same keys. What NAME has of them: NAME_standard_error, and the ends of its 95 %
interval, NAME_interval_low and NAME_interval_high."""


def shown_rows(records: Sequence[Record]) -> list[Row | str]:
    """Header, rule and rows for reading: a number has its interval or standard error, what is not known is a dash."""
    names = _shown_names(records)
    rows = [[_shown(record, name) for name in names] for record in records]
    return [names, RULE, *rows]


def _shown_names(records: Sequence[Record]) -> list[str]:
    return [name for name in records[0] if not name.endswith(SUFFIXES)]


def latex(records: Sequence[Record]) -> str:
    """Words flush left and numbers flush right; in a table of methods, a rule between its blocks."""
    words = [any(isinstance(record[name], str) for record in records) for name in _shown_names(records)]
    return as_latex(_ruled(records), "".join("l" if wordy else "r" for wordy in words))


def _ruled(records: Sequence[Record]) -> list[Row | str]:
    """The shown rows; a rule before each block of a table of methods, unless all blocks are of one row."""
    header, rule, *rows = shown_rows(records)
    blocks = [tuple(record[name] for name in BLOCK) for record in records if tuple(record)[: len(BLOCK)] == BLOCK]
    if not len(set(blocks)) < len(blocks):
        return [header, rule, *rows]
    later = [[RULE, row] if one != other else [row] for (one, other), row in zip(pairwise(blocks), rows[1:])]
    return [header, rule, rows[0], *(line for lines in later for line in lines)]


def as_csv(records: Sequence[Record]) -> str:
    """Every number in full, standard errors and intervals in columns of their own; what is not known is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().removesuffix("\n")


def as_json(records: Sequence[Record]) -> str:
    """A list of objects, every number in full; what is not known is null."""
    return json_text(list(records), indent=2)


FORMATS: dict[str, Callable[[Sequence[Record]], str]] = {
    "text": lambda records: as_text(shown_rows(records)),
    "markdown": lambda records: as_markdown(shown_rows(records)),
    "latex": latex,
    "csv": as_csv,
    "json": as_json,
}


def _shown(record: Record, name: str) -> str:
    value, error = record[name], record.get(name + ERROR_SUFFIX)
    low, high = (record.get(name + suffix) for suffix in (LOW_SUFFIX, HIGH_SUFFIX))
    if value is None:
        return NOTHING
    if isinstance(value, float):
        return format_spread(value, error, None if low is None else (low, high))
    return f"{value:,}" if isinstance(value, int) else str(value)
