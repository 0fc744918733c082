"""Where the time of a backend goes within a layer, from cases of part 2 that differ in one thing."""

from benchmarks.gpu_parts import layer
from benchmarks.gpu_parts.case import Found
from benchmarks.gpu_parts.report import Report
from benchmarks.gpu_parts.sizes import Sizes
from benchmarks.gpu_parts.targets import numbers
from models.attention.settings import BACKENDS
from utils.text_tables import as_text


def times_apart(report: Report, sizes: Sizes) -> list[Found]:
    """Seconds of a layer by shape, length and backend: in all, of the window, of rotating, of the first tokens.

    First tokens: what is saved without them, their join with the window included. Rotation: what the window takes less
    without positions. Rows are those of which all three cases were measured.
    """
    seconds, rows = numbers(report, layer.PART.name, "median"), []
    for length in sizes.layer_lengths:
        for shape in sizes.shapes:
            for backend in BACKENDS[1:]:
                ways = (backend, f"{backend}, {layer.WINDOW}", f"{backend}, {layer.WINDOW}, {layer.NO_POSITIONS}")
                found = [seconds.get(layer.case_name(shape, length, way)) for way in ways]
                if None not in found:
                    rows.append({"shape": shape.label, "tokens": length, "backend": backend, **_split(*found)})
    return rows


def _split(whole: float, window: float, bare: float) -> Found:
    return {"seconds": whole, "window": bare, "rotation": window - bare, "first_tokens_and_join": whole - window}


def table(rows: list[Found]) -> str:
    """The rows in milliseconds."""
    columns = ("seconds", "window", "rotation", "first_tokens_and_join")
    titles = ["in all", "window", "rotation", "first tokens and join"]
    lines = [["shape", "tokens", "backend", *(f"{title}, ms" for title in titles)], ""]
    for row in rows:
        cells = [f"{1e3 * row[name]:.3f}" for name in columns]
        lines.append([row["shape"], f"{row['tokens']:,}", row["backend"], *cells])
    return as_text(lines)
