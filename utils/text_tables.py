"""Tables as lines of text. A row is its cells; a str in its place is a rule, with words in it or none."""

from collections.abc import Sequence
from itertools import zip_longest

Row = list[str]


def as_text(rows: Sequence[Row | str]) -> str:
    """The rows as columns set flush right, with rules of dashes."""
    widths = _column_widths(rows)
    total = sum(widths) + 2 * (len(widths) - 1)
    lines = []
    for row in rows:
        if isinstance(row, str):
            lines.append(f" {row} ".center(total, "-") if row else "-" * total)
        else:
            lines.append("  ".join(cell.rjust(width) for cell, width in zip(row, widths)))
    return "\n".join(lines)


def as_markdown(rows: Sequence[Row | str]) -> str:
    """The rows as a GitHub table; the first rule is the header's, one with words is a row of its own."""
    columns = len(_column_widths(rows))
    lines = []
    for index, row in enumerate(rows):
        if index == 1:
            lines.append("|" + " ---: |" * columns)
        elif isinstance(row, list):
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
        elif row:
            lines.append(f"| *{row}* |" + " |" * (columns - 1))
    return "\n".join(lines)


def _column_widths(rows: Sequence[Row | str]) -> list[int]:
    columns = zip_longest(*(row for row in rows if isinstance(row, list)), fillvalue="")
    return [max(len(cell) for cell in column) for column in columns]


def format_spread(value: float, error: float | None, interval: Sequence[float] | None, digits: int = 4) -> str:
    """The value with its 95 % interval, or else with its standard error, as far as they are known."""
    if interval is not None:
        low, high = interval
        return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def format_number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if value < 1e5 else f"{value:.3e}"
