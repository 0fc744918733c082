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
BESIDE_CELLS, TWO_LINES = 0.9, 0.2  # inches of height: of title and axis, and of a row
DARK = 0.55  # a score below has so dark a colour that words on it are white


def draw(methods: Sequence[Method], *, pretraining_length: int | None = None, title: str | None = None) -> Figure:
    """The figure of these methods. Draw and save within paper_style()."""
    groups, depths = LengthGroups.over(methods), depth_rows(methods)
    counts = np.stack([examples_by_cell(method, groups, depths) for method in methods])
    numbered = len(groups.lengths) <= MOST_NUMBERS[min(len(methods), PANELS_IN_A_ROW)]
    counted = numbered and len(np.unique(counts[counts > 0])) > 1
    figure, panels = _make_panels(len(methods), len(depths.names) if counted else 0)
    for axes, method, own in zip(panels, methods, counts):
        scores = scores_by_cell(method, groups, depths)
        _draw_cells(axes, scores)
        if numbered:
            _write_numbers(axes, scores, own if counted else None)
        set_panel_title(axes, method.label)
        axes.set_xticks(
            range(len(groups.lengths)), [f"{length:,.0f}" for length in groups.lengths], rotation=45, ha="right"
        )
        axes.set_yticks(range(len(depths.names)), depths.names)
        axes.set_xlabel(groups.axis)
        _name_depths(axes)
    bar = figure.colorbar(ScalarMappable(SCALE, COLOURS), ax=panels, label=measure_of(methods), pad=0.02)
    bar.outline.set_visible(False)
    edge = partial(_column_edge, groups.lengths)
    marks = mark_pretraining(panels, methods, pretraining_length, edge, groups.lengths, **MARK)
    if (counts == 0).any():
        marks.append((Patch(color=MISSING), "no example"))
    examples = "n: examples of a cell" if counted else f"{count_words(counts[counts > 0])} a cell"
    finish_figure(figure, marks, title, f"{words_of(methods)}; {examples}")
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


def _make_panels(methods: int, rows_of_two_lines: int) -> tuple[Figure, list[Axes]]:
    """A panel for each method, high enough for so many rows of cells with two lines in each."""
    columns = min(methods, PANELS_IN_A_ROW)
    rows = -(-methods // columns)
    width = COLUMN_WIDTH if columns == 1 else TEXT_WIDTH
    figure = Figure(
        figsize=(width, max(2.4, BESIDE_CELLS + TWO_LINES * rows_of_two_lines) * rows), layout="constrained"
    )
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[methods:]:
        axes.remove()
    return figure, panels[:methods]


def _name_depths(axes: Axes) -> None:
    """The depths stand once in a row of panels: at its left."""
    if axes.get_subplotspec().is_first_col():
        axes.set_ylabel("depth of the answer", labelpad=6)
    else:
        axes.tick_params(labelleft=False)


def _draw_cells(axes: Axes, scores: np.ndarray) -> None:
    """A rectangle for each cell, the first row at the top."""
    axes.set_facecolor(MISSING)
    axes.grid(False)
    rows, columns = scores.shape
    cells = np.ma.masked_invalid(scores)
    axes.pcolormesh(
        range(columns), range(rows), cells, shading="nearest", cmap=COLOURS, norm=SCALE, edgecolor="white", lw=0.4
    )
    axes.invert_yaxis()


def _write_numbers(axes: Axes, scores: np.ndarray, counts: np.ndarray | None) -> None:
    """The score in each cell and, where `counts` are given, how many examples it has, in smaller letters below it."""
    for (row, column), score in np.ndenumerate(scores):
        if np.isfinite(score):
            look = {"ha": "center", "color": "white" if score < DARK else "black"}
            height = "center" if counts is None else "bottom"
            axes.text(column, row, f"{score:.2f}", va=height, fontsize=5.5, **look)
            if counts is not None:
                axes.text(column, row, f"n {counts[row, column]:,}", va="top", fontsize=4.5, **look)
