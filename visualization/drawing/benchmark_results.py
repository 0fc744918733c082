"""Results of a file of benchmarks/, read for drawing: panels, methods and points."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.errors import UserError

FLOOR = "floor"
FIRST_METHOD = "Λ-attention"
"""The method that looks the same in every picture."""
NO_BREAK = "\N{NO-BREAK SPACE}"
"""Between a name and its version, which stay on one line of a title."""


@dataclass(frozen=True)
class Point:
    """A number at a length in tokens, and from where to where its repetitions went."""

    length: float
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Benchmark:
    """The results of one benchmark. quantities: label of the axis, by the rows' key of the quantity."""

    title: str
    machine: str
    quantities: dict[str, str]
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Panel:
    """Rows of one shape or model in one precision, on one machine."""

    name: str
    machine: str
    rows: list[dict[str, Any]]

    def points(self, method: str, quantity: str) -> list[Point]:
        """Points by length, without what cannot stand on a logarithmic axis."""
        rows = [row for row in self.rows if row["method"] == method]
        points = (_point(row["length"], row.get(quantity)) for row in rows)
        return sorted((point for point in points if point), key=lambda point: point.length)


def load_benchmark(path: str) -> Benchmark:
    """Raises UserError where the file is missing, damaged, or of something else."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): give what a file of benchmarks/ saves") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): give what a file of benchmarks/ saves") from None
    try:
        machine = content["machine"]
        described = f"{machine['device']}, torch{NO_BREAK}{machine['torch']}"
        benchmark = Benchmark(content["title"], described, dict(content["quantities"]), list(content["rows"]))
        usable = all(_is_row(row) for row in benchmark.rows) and isinstance(benchmark.title, str)
    except (KeyError, TypeError, ValueError):
        usable = False
    if not usable:
        raise UserError(
            f"{path} is not of a benchmark that can be drawn (it needs machine, title, quantities, and rows with "
            "panel, method and length): give what a file of benchmarks/ saves"
        )
    return benchmark


def panels_of(benchmarks: Sequence[Benchmark]) -> list[Panel]:
    """The panels of all benchmarks, in their order; rows of one panel on one machine belong together."""
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for benchmark in benchmarks:
        for row in benchmark.rows:
            rows.setdefault((row["panel"], benchmark.machine), []).append(row)
    return [Panel(name, machine, own) for (name, machine), own in rows.items()]


def methods_of(panels: Iterable[Panel]) -> list[str]:
    """The methods as they come up, Λ-attention first and the floor last."""
    found = list(dict.fromkeys(row["method"] for panel in panels for row in panel.rows))
    return sorted(found, key=lambda method: (method == FLOOR, method != FIRST_METHOD))


def _is_row(row: Any) -> bool:
    names = isinstance(row, dict) and all(isinstance(row.get(name), str) for name in ("panel", "method"))
    return names and isinstance(row.get("length"), (int, float)) and row["length"] > 0


def _point(length: float, value: Any) -> Point | None:
    names = ("median", "low", "high")
    numbers = [value.get(name) for name in names] if isinstance(value, dict) else [value] * 3
    if not all(isinstance(number, (int, float)) and 0 < number < math.inf for number in numbers):
        return None
    return Point(length, *numbers)
