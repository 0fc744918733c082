"""Records as a table: columns of text, Markdown, CSV or JSON."""

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any

from utils.files import json_text
from utils.text_tables import Row, as_markdown, as_text

ERROR_SUFFIX = "_standard_error"
NOTHING = "-"
RULE = ""
Record = dict[str, Any]
"""One row, all of them with the same keys. The standard error of NAME, where it has one, is NAME_standard_error."""


def shown_rows(records: Sequence[Record]) -> list[Row | str]:
    """Header, rule and rows for reading: a number is shown with its standard error, what is not known as a dash."""
    names = [name for name in records[0] if not name.endswith(ERROR_SUFFIX)]
    rows = [[_shown(record[name], record.get(name + ERROR_SUFFIX)) for name in names] for record in records]
    return [names, RULE, *rows]


def as_csv(records: Sequence[Record]) -> str:
    """Every number in full, standard errors in columns of their own; what is not known is empty."""
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
    "csv": as_csv,
    "json": as_json,
}


def _shown(value: Any, error: float | None) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, float):
        return f"{value:.4f}" + (f" ± {error:.4f}" if error is not None else "")
    return f"{value:,}" if isinstance(value, int) else str(value)
