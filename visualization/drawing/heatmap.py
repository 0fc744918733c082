"""Score over the length of the prompt and the depth of the answer in it, a panel for each method."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from utils.errors import UserError
from visualization.drawing.legend import finish_figure, mark_pretraining
from visualization.drawing.lengths import LengthGroups
from visualization.drawing.methods import Method, count_words, measure_of, words_of
from visualization.drawing.style import COLUMN_WIDTH, TEXT_WIDTH, set_panel_title

COLOURS, SCALE = "cividis", Normalize(0, 1)
MISSING = "0.88"
MARK = {"color": "#D55E00", "linewidth": 1.5, "zorder": 3}
MOST_DEPTHS, EVEN_DEPTHS = 11, 10
PANELS_IN_A_ROW = 3
MOST_NUMBERS = {1: 8, 2: 8, 3: 5}  # columns in which a number has room, by panels in a row
DARK = 0.55  # a score below has so dark a colour that words on it are white


def draw(methods: Sequence[Method], *, pretraining_length: int | None = None, title: str | None = None) -> Figure:
    """The figure of these methods. Draw and save within paper_style()."""
    groups, depths = LengthGroups.over(methods), depth_rows(methods)
    figure, panels = _make_panels(len(methods))
    for axes, method in zip(panels, methods):
        _draw_cells(axes, scores_by_cell(method, groups, depths), len(methods))
        set_panel_title(axes, method.label)
        axes.set_xticks(
            range(len(groups.lengths)), [f"{length:,.0f}" for length in groups.lengths], rotation=45, ha="right"
        )
        axes.set_yticks(range(len(depths.names)), depths.names)
        axes.set(xlabel=groups.axis, ylabel="depth of the answer")
    bar = figure.colorbar(ScalarMappable(SCALE, COLOURS), ax=panels, label=measure_of(methods), pad=0.02)
    bar.outline.set_visible(False)
    marks = mark_pretraining(panels, methods, pretraining_length, partial(_column_edge, groups.lengths), **MARK)
    counts = np.stack([examples_by_cell(method, groups, depths) for method in methods])
    if (counts == 0).any():
        marks.append((Patch(color=MISSING), "no example"))
    finish_figure(figure, marks, title, f"{words_of(methods)}; {count_words(counts[counts > 0])} a cell")
    return figure


def _column_edge(lengths: np.ndarray, length: int) -> float:
    """Where a length lies between columns of these lengths."""
    return np.searchsorted(lengths, length, side="right") - 0.5


@dataclass(frozen=True)
class DepthRows:
    """The rows of a picture. edges: `[rows + 1]`, from 0 to 1; an answer at an edge is in the row that it begins."""

    edges: np.ndarray
    names: list[str]


def depth_rows(methods: Sequence[Method]) -> DepthRows:
    """A row for each depth where those are few, otherwise rows of even height."""
    depths = [sample["depth"] for method in methods for sample in method.samples if sample["depth"] is not None]
    if not depths:
        raise UserError(
            f"no example of {methods[0].trials[0].log_dir} has a depth, the place of its answer: draw the scores with "
            "score_by_length.py"
        )
    depths = np.unique(np.round(depths, 2))
    if len(depths) > MOST_DEPTHS:
        edges = np.linspace(0, 1, EVEN_DEPTHS + 1)
        return DepthRows(edges, [f"{low:.0%}–{high:.0%}" for low, high in pairwise(edges)])
    edges = np.concatenate([[0.0], (depths[1:] + depths[:-1]) / 2, [1.0]])
    return DepthRows(edges, [f"{depth:.0%}" for depth in depths])


def examples_by_cell(method: Method, groups: LengthGroups, rows: DepthRows) -> np.ndarray:
    """Numbers of examples, int64 `[depths, lengths]`."""
    return _sums(method, groups, rows)[1].astype(np.int64)


def _sums(method: Method, groups: LengthGroups, rows: DepthRows) -> np.ndarray:
    """Sums of scores and numbers of examples, `[2, depths, lengths]`."""
    samples = [sample for sample in method.samples if sample["depth"] is not None]
    columns = groups.of(samples)
    depths = np.array([sample["depth"] for sample in samples], dtype=np.float64)
    cells = np.searchsorted(rows.edges[1:-1], depths, side="right"), columns
    sums = np.zeros((2, len(rows.names), len(groups.starts)))
    np.add.at(sums[0], cells, [sample["score"] for sample in samples])
    np.add.at(sums[1], cells, 1)
    return sums


def scores_by_cell(method: Method, groups: LengthGroups, rows: DepthRows) -> np.ndarray:
    """Mean scores `[depths, lengths]`, NaN where there is no example."""
    total, count = _sums(method, groups, rows)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _make_panels(methods: int) -> tuple[Figure, list[Axes]]:
    columns = min(methods, PANELS_IN_A_ROW)
    rows = -(-methods // columns)
    width = COLUMN_WIDTH if columns == 1 else TEXT_WIDTH
    figure = Figure(figsize=(width, 2.4 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[methods:]:
        axes.remove()
    return figure, panels[:methods]


def _draw_cells(axes: Axes, scores: np.ndarray, panels: int) -> None:
    """A rectangle for each cell, the first row at the top, and where there is room its number."""
    axes.set_facecolor(MISSING)
    axes.grid(False)
    rows, columns = scores.shape
    cells = np.ma.masked_invalid(scores)
    axes.pcolormesh(
        range(columns), range(rows), cells, shading="nearest", cmap=COLOURS, norm=SCALE, edgecolor="white", lw=0.4
    )
    axes.invert_yaxis()
    if columns > MOST_NUMBERS[min(panels, PANELS_IN_A_ROW)]:
        return
    for (row, column), score in np.ndenumerate(scores):
        if np.isfinite(score):
            colour = "white" if score < DARK else "black"
            axes.text(column, row, f"{score:.2f}", ha="center", va="center", fontsize=5.5, color=colour)
