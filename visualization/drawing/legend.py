"""The last strokes of a picture of trials: marks of the pre-training length, the title and the legend."""

from collections.abc import Callable, Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from utils.trials.finished import Drawn, lengths_to_mark
from visualization.drawing.style import add_heading, add_legend_below, fix_ticks, mark_length

Entry = tuple[Artist, str]
"""A line of the legend: what stands for it, and its words."""


def band_patch() -> Patch:
    """Patch that stands for a band in a legend."""
    return Patch(color="0.5", alpha=0.35, linewidth=0)


def mark_pretraining(
    panels: Sequence[Axes],
    trials: Sequence[Drawn],
    pretraining_length: int | None,
    place: Callable[[int], float] = lambda length: length,
    lengths: Sequence[float] | None = None,
    **look: object,
) -> list[Entry]:
    """Mark the pre-training lengths of trials in all panels, or only the one given; returns them for the legend.

    place: where a length lies on the axis. lengths: those of the points or columns, ascending, what is not between them
    has no mark; None where texts are drawn from their first token on. look: what is other than usual, as matplotlib's
    Line2D takes it.
    """
    return [
        (mark_length(panels, place(length), **look), f"pre-training length {length:,}")
        for length in lengths_to_mark(trials, pretraining_length)
        if lengths is None or lengths[0] <= length < lengths[-1]
    ]


def finish_figure(figure: Figure, entries: Sequence[Entry], title: str | None, source: str) -> None:
    """Add the title, below it what the picture is of, and, where there are entries, the legend."""
    fix_ticks(figure)
    add_heading(figure, title, source)
    if entries:
        add_legend_below(figure, *zip(*entries))
