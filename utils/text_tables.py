"""Tables as lines of text. A row is its cells; a str in its place is a rule, with words in it or none."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
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
    """The rows as a GitHub table; the first rule is the header's, one with words is a row of its own.

    What a cell holds is text: no HTML, and no end of a cell or row.
    """
    columns = len(_column_widths(rows))
    lines = []
    for index, row in enumerate(rows):
        if index == 1:
            lines.append("|" + " ---: |" * columns)
        elif isinstance(row, list):
            lines.append("| " + " | ".join(map(_as_cell, row)) + " |")
        elif row:
            lines.append(f"| *{_as_cell(row)}* |" + " |" * (columns - 1))
    return "\n".join(lines)


def _as_cell(text: str) -> str:
    return " ".join(html.escape(text, quote=False).replace("|", "\\|").splitlines())


def as_latex(rows: Sequence[Row | str], alignment: str) -> str:
    """The rows as a `tabular` with the rules of the package booktabs; a rule with words is a row of its own.

    alignment: a letter for each column, l or r.
    """
    lines = [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule"]
    for row in rows:
        if isinstance(row, list):
            lines.append(" & ".join(map(_in_latex, row)) + r" \\")
        else:
            lines.append(r"\midrule")
            lines += [rf"\multicolumn{{{len(alignment)}}}{{l}}{{\emph{{{_in_latex(row)}}}}} \\"] if row else []
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _in_latex(text: str) -> str:
    """As text between dollars where it must be: nothing of it is a command."""
    return " ".join(text.translate(_LATEX).splitlines())


_LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": "$<$", ">": "$>$", "|": "$|$", "±": r"$\pm$", "Λ": r"$\Lambda$"}
)


def _column_widths(rows: Sequence[Row | str]) -> list[int]:
    columns = zip_longest(*(row for row in rows if isinstance(row, list)), fillvalue="")
    return [max(len(cell) for cell in column) for column in columns]


@dataclass(frozen=True)
class Scale:
    """How numbers from 0 to 1 are shown: times a factor, with so many digits, and with words behind their name."""

    factor: int
    digits: int
    words: str


SHARE, PERCENT = Scale(1, 4, ""), Scale(100, 2, " (of 100)")


def format_spread(value: float, error: float | None, interval: Sequence[float] | None, scale: Scale = SHARE) -> str:
    """The value with its 95 % interval, or else with its standard error, as far as they are known."""
    shown = [f"{scale.factor * one:.{scale.digits}f}" for one in (value, error or 0.0, *(interval or ()))]
    if interval is not None:
        return f"{shown[0]} [{shown[2]}, {shown[3]}]"
    return shown[0] + ("" if error is None else f" ± {shown[1]}")


def counted(number: int, what: str) -> str:
    """ "1 document", "2,000 documents"."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def format_number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if value < 1e5 else f"{value:.3e}"
