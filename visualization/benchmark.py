"""Draw what a benchmark measured: a row of panels for each quantity, a column for each model or shape.

    python visualization/benchmark.py benchmarks/results/amd_epyc/prefill_kernel_cpu.json --out prefill.png

RESULTS is what a file of benchmarks/ saves; of several, the panels stand side by side. A line for each method, through
medians, with bars from the lowest to the highest of several runs; dashed in grey what the machine allows at best.
The machine stands above the panels, below the benchmark's own title or the one given.
"""

import argparse
import math
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from utils.arguments import HarnessParser
from utils.errors import UserError
from utils.program import run_main
from visualization.drawing.arguments import add_picture_arguments
from visualization.drawing.benchmark_results import (
    FLOOR,
    Benchmark,
    Panel,
    Point,
    load_benchmark,
    methods_of,
    panels_of,
)
from visualization.drawing.looks import Look, looks_by_name, marked
from visualization.drawing.style import (
    COLUMN_WIDTH,
    RC,
    TEXT_WIDTH,
    add_legend_below,
    give_picture,
    set_decade_ticks,
    set_plain_log_ticks,
    wrap_title,
)

PANEL_HEIGHT = 1.45  # inches
NARROWEST_PANEL = 1.6  # inches
LINE_HEIGHT = 0.16  # inches
LETTERS_BESIDE_PANEL = 19
TICKS_PER_INCH = 3
LEAST_RANGE = 4.0
"""Highest over lowest of an axis of quantities: what hardly changes must look as if it hardly did."""
ROOM = 0.05
"""Share of the height that the quantities span, kept free above and below them for whole markers."""
MOST_DECADES_WRITTEN_OUT = 1.7
FLOOR_LOOK = {"color": "0.55", "linestyle": (0, (4, 2)), "linewidth": 1.1, "marker": "", "zorder": 1}


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = HarnessParser(__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("results", nargs="+", metavar="RESULTS", help="JSON of a benchmark")
    add_picture_arguments(parser)
    return parser.parse_args(argv)


def draw(benchmarks: Sequence[Benchmark], title: str | None = None) -> Figure:
    """The figure of these benchmarks. Draw and save within paper_style(). UserError where there is nothing to draw."""
    panels = panels_of(benchmarks)
    quantities = {name: label for benchmark in benchmarks for name, label in benchmark.quantities.items()}
    quantities = {name: label for name, label in quantities.items() if _all_points(panels, name)}
    if not quantities:
        raise UserError("these results hold no number that could be drawn: run the benchmark again")
    width = COLUMN_WIDTH if len(panels) == 1 else max(TEXT_WIDTH, NARROWEST_PANEL * len(panels))
    heading = _heading(benchmarks, title, width)
    height = PANEL_HEIGHT * len(quantities) + LINE_HEIGHT * (heading.count("\n") + 4)  # 4: of panels and their axes
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(len(quantities), len(panels), sharex="col", sharey="row", squeeze=False)
    looks = _method_looks(methods_of(panels))
    entries: dict[str, Artist] = {}
    for row, (name, label) in zip(grid, quantities.items()):
        _set_quantity(row[0], name, label, panels)
        for axes, panel in zip(row, panels):
            entries |= _draw_panel(axes, panel, name, looks)
    _label_columns(grid, panels, width)
    figure.suptitle(heading, parse_math=False)
    in_order = [method for method in looks if method in entries]
    add_legend_below(figure, [entries[method] for method in in_order], in_order)
    return figure


def _all_points(panels: Sequence[Panel], quantity: str) -> list[Point]:
    return [point for panel in panels for method in methods_of([panel]) for point in panel.points(method, quantity)]


def _draw_panel(axes: Axes, panel: Panel, quantity: str, looks: dict[str, Look]) -> dict[str, Artist]:
    """Draw the methods that have this quantity; each one's artist for the legend."""
    drawn = {}
    for method, look in looks.items():
        points = panel.points(method, quantity)
        if points:
            lengths = [point.length for point in points]
            medians = [point.median for point in points]
            drawn[method] = axes.errorbar(lengths, medians, _spread(points), **look)
    return drawn


def _method_looks(methods: Sequence[str]) -> dict[str, Look]:
    """The look of each; the first method lies over the others."""
    measured = [method for method in methods if method != FLOOR]
    bars = {"capsize": 1.5, "elinewidth": 0.8}
    looks = [
        bars | look | {"zorder": 2 + 1 / (1 + place)} for place, look in enumerate(marked(looks_by_name(measured)))
    ]
    return dict(zip(measured, looks)) | {FLOOR: FLOOR_LOOK}


def _spread(points: Sequence[Point]) -> np.ndarray | None:
    """Lengths of the bars below and above the medians, `[2, points]`; None where there is no spread at all."""
    bars = [(point.median - point.low, point.high - point.median) for point in points]
    return np.array(bars).T.clip(min=0) if np.any(bars) else None


def _set_quantity(axes: Axes, name: str, label: str, panels: Sequence[Panel]) -> None:
    """The shared axis of a row of panels."""
    points = _all_points(panels, name)
    low, high = min(point.low for point in points), max(point.high for point in points)
    widen = max(1.15, (high / low) ** ROOM, math.sqrt(LEAST_RANGE * low / high))
    axes.set(yscale="log", ylim=(low / widen, high * widen))
    axes.set_ylabel(textwrap.fill(label, LETTERS_BESIDE_PANEL), parse_math=False)
    decades = math.log10(high * widen**2 / low)
    if decades <= MOST_DECADES_WRITTEN_OUT:
        set_plain_log_ticks(axes.yaxis)
    else:
        set_decade_ticks(axes.yaxis, decades)


def _label_columns(grid: np.ndarray, panels: Sequence[Panel], width: float) -> None:
    """Above each column its panel, with the machine where they differ; below it the lengths."""
    panel_width = width / len(panels)
    several_machines = len({panel.machine for panel in panels}) > 1
    for top, bottom, panel in zip(grid[0], grid[-1], panels):
        lines = [panel.name, panel.machine] if several_machines else [panel.name]
        top.set_title("\n".join(wrap_title(line, panel_width) for line in lines), parse_math=False)
        bottom.set(xscale="log", xlabel="length (tokens)")
        _set_length_ticks(bottom.xaxis, [row["length"] for row in panel.rows], int(TICKS_PER_INCH * panel_width))


def _set_length_ticks(axis: Axis, lengths: Sequence[float], most: int) -> None:
    """Set ticks at powers of two, at most so many; a single length stands in the middle."""
    if len(set(lengths)) == 1:
        axis.axes.set_xlim(lengths[0] / 2, lengths[0] * 2)
    axis.set_major_locator(LogLocator(2, numticks=most))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda length, _: _short_length(length)))


def _short_length(length: float) -> str:
    for unit, size in (("M", 2**20), ("K", 2**10)):
        if length >= size:
            return f"{length / size:.3g}{unit}"
    return f"{length:g}"


def _heading(benchmarks: Sequence[Benchmark], title: str | None, width: float) -> str:
    """The title, and below it the machine where all were measured on one."""
    lines = [title] if title else list(dict.fromkeys(benchmark.title for benchmark in benchmarks))
    machines = {benchmark.machine for benchmark in benchmarks}
    lines += machines if len(machines) == 1 else []
    return "\n".join(wrap_title(line, width, RC["figure.titlesize"]) for line in lines)


def main() -> None:
    arguments = parse_arguments()
    give_picture(
        arguments.out, lambda: draw([load_benchmark(path) for path in arguments.results], title=arguments.title)
    )


if __name__ == "__main__":
    run_main(main)
