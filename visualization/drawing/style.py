"""The look that all figures share, and how they are written: column width, colour-blind safe, no display."""

import io
import math
import textwrap
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    AutoLocator,
    FixedFormatter,
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    MultipleLocator,
    NullLocator,
    StrMethodFormatter,
)

from utils.errors import UserError
from utils.files import replace_file

SUFFIXES = (".png", ".pdf", ".svg")
COLUMN_WIDTH = 3.35  # inches: a column of the usual two-column templates
AXIS_WIDTH = 2.5  # inches: about what a panel of such a width has beside its labels
TEXT_WIDTH = 6.9  # inches: both columns
MOST_DECADES_WITH_MINOR_TICKS = 6
LETTER, BESIDE, SLANTED = 0.058, 0.08, 0.14
"""Inches of an axis that a letter of a tick takes, of the gap beside the words, and a slanted one whatever it says."""

MOST_STEPS = 7  # of an upright linear axis, between ticks
LETTERS_OF_A_POINT = 125  # that have room in an inch: they are about 0.58 as wide as high
SOURCE_SIZE = 7
LINE_OF_A_POINT = 1.2 / 72  # inches
PANEL_SHARE = 0.84  # of a column of the figure, that a panel has beside colour bars
WIDEST_LEGEND = 0.98  # share of the width of the figure
LEAST_FOR_125 = 5  # the highest over the lowest of an axis that has at least two ticks of 1, 2, 5, ...
MARKERS = "osD^vPX"
LINE_STYLES = ("-", (0, (7, 1.2)), (0, (6, 1.2, 1, 1.2)), (0, (1.2, 1.2)))

RC = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "figure.titlesize": 9,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.1,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "legend.columnspacing": 1.2,
    "legend.borderpad": 0.2,
    "figure.dpi": 300,
    "pdf.fonttype": 42,  # TrueType: what publishers ask for
    "svg.hashsalt": "lm-infinite",  # the same figure gives the same bytes
}


def paper_style() -> AbstractContextManager[None]:
    """The context in which figures are both drawn and saved."""
    return matplotlib.rc_context(RC)


def mark_length(panels: Sequence[Axes], length: float, **look: object) -> Line2D:
    """Mark a length in tokens, such as the pre-training length, in all panels; returns one of the lines.

    look: what is other than usual, as matplotlib's Line2D takes it.
    """
    look = {"color": "0.35", "linestyle": (0, (1, 1)), "linewidth": 0.9, "zorder": 1} | look
    return [axes.axvline(length, **look) for axes in reversed(panels)][-1]


def set_panel_title(axes: Axes, title: str) -> None:
    """The title of a panel, in lines no wider than its column of the figure, which grows by lines beyond the first.

    It is a name, as in `add_heading`.
    """
    inches = PANEL_SHARE * axes.figure.get_figwidth() / axes.get_subplotspec().get_gridspec().ncols
    wrapped = wrap_title(title, inches)
    axes.set_title(wrapped, parse_math=False)
    if axes.get_subplotspec().is_first_col():
        _make_taller(axes.figure, wrapped.partition("\n")[2])


def add_heading(figure: Figure, title: str | None, source: str) -> None:
    """The title, if any, above all panels, and below it what the picture is of; the figure grows by their height.

    A title is a name: "$5" stays so.
    """
    size = RC["figure.titlesize"] if title else SOURCE_SIZE
    heading = "\n".join(wrap_title(line, figure.get_figwidth(), size) for line in (title, source) if line)
    if heading:
        figure.suptitle(heading, parse_math=False, fontsize=size, color="black" if title else "0.35")
        _make_taller(figure, heading, size)


def _make_taller(figure: Figure, lines: str, size: float = RC["axes.titlesize"]) -> None:
    """Give the figure room for these lines, in letters of so many points."""
    count = lines.count("\n") + 1 if lines else 0
    figure.set_figheight(figure.get_figheight() + count * LINE_OF_A_POINT * size)


def wrap_title(title: str, inches: float, size: float = RC["axes.titlesize"]) -> str:
    """The title in lines that are no wider than this, in letters of so many points."""
    return textwrap.fill(title, max(int(LETTERS_OF_A_POINT * inches / size) - 1, 1), break_on_hyphens=False)


def add_legend_below(figure: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """Put the legend under the axes, where it covers no curve, and make the figure taller by its height."""
    wrapped = [textwrap.fill(label, 50) for label in labels]
    most = 3 if figure.get_figwidth() < TEXT_WIDTH else 6
    for columns in range(min(len(handles), most), 0, -1):
        legend = figure.legend(handles, [""] * len(handles), loc="outside lower center", ncols=columns)
        for text, label in zip(legend.get_texts(), wrapped):
            text.set(text=label, parse_math=False)  # a label is a name: "_a" and "$5" are shown as they are
        extent = legend.get_window_extent()
        if extent.width <= WIDEST_LEGEND * figure.bbox.width or columns == 1:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + extent.height / figure.dpi)


def fix_ticks(figure: Figure) -> None:
    """Have the number of ticks of upright linear axes follow from their range alone.

    By default it follows from their height, too, which the layout sets and which widens or narrows their labels again.
    """
    for axes in figure.axes:
        if isinstance(axes.yaxis.get_major_locator(), AutoLocator):
            axes.yaxis.get_major_locator().set_params(nbins=MOST_STEPS)


def set_token_ticks(axis: Axis, length: int) -> None:
    """Ticks of a linear axis of positions at multiples of a power of two, as lengths of models are."""
    step = 1
    while length > 5 * step:
        step *= 2
    axis.set_major_locator(MultipleLocator(step))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def set_length_ticks(axis: Axis, lengths: Sequence[float], inches: float) -> None:
    """Ticks of a logarithmic axis at each of these lengths of texts, ascending, on an axis of so many inches.

    Their labels are slanted where they have no room side by side; one that has none even so is left out.
    """
    axis.set_major_locator(FixedLocator(lengths))
    axis.set_minor_locator(NullLocator())
    labels = [f"{length:,.0f}" if length < 1e6 else short_number(length) for length in lengths]
    places = np.log(np.asarray(lengths) / lengths[0])
    places *= inches / (places[-1] or 1.0)
    level = (np.diff(places) > BESIDE + LETTER * max(map(len, labels))).all()
    axis.set_major_formatter(FixedFormatter(labels if level else _with_room(labels, places)))
    if not level:
        axis.set_tick_params(labelrotation=45)
        for label in axis.get_ticklabels():
            label.set(ha="right", rotation_mode="anchor")


def _with_room(labels: Sequence[str], places: Sequence[float]) -> list[str]:
    """The labels, without those that are nearer than SLANTED to the one before."""
    kept, last = [], -math.inf
    for label, place in zip(labels, places):
        near = place - last < SLANTED
        kept.append("" if near else label)
        last = last if near else place
    return kept


def set_plain_log_ticks(axis: Axis) -> None:
    """Ticks of a logarithmic axis of few decades at 1, 2, 5, 10, ..., or if these are too few evenly, written out."""
    low, high = axis.get_view_interval()
    few = high < LEAST_FOR_125 * low
    axis.set_major_locator(MaxNLocator(4, steps=(1, 2, 5, 10)) if few else LogLocator(10, subs=(1, 2, 5), numticks=20))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())


def set_stream_ticks(axis: Axis) -> None:
    """Ticks of a linear axis of positions at round decimal numbers, in short: a stream is longer than any model."""
    axis.set_major_locator(MaxNLocator(5, steps=(1, 2, 5, 10)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))


def set_decade_ticks(axis: Axis, decades: float) -> None:
    """Ticks of a logarithmic axis at every power of ten, however many; finer ones only where there are few."""
    axis.set_major_locator(LogLocator(10, numticks=20))
    if decades > MOST_DECADES_WITH_MINOR_TICKS:
        axis.set_minor_locator(NullLocator())


def short_number(value: float) -> str:
    """1500 as 1.5K, with M for millions and B for billions, as numbers of tokens are told."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def give_picture(outputs: Sequence[str], draw: Callable[[], Figure]) -> None:
    """Draw a figure in the shared look, write it to each of `outputs`, and say so; a bad name is told before."""
    paths = check_outputs(outputs)
    with paper_style():
        save_figure(draw(), paths)
    for path in paths:
        print(f"wrote {path}")


def check_outputs(paths: Sequence[str]) -> list[Path]:
    """The paths of the pictures to write; UserError where a suffix is none of SUFFIXES."""
    for path in paths:
        if Path(path).suffix.lower() not in SUFFIXES:
            raise UserError(f"--out {path}: unsupported suffix, pictures end in {' or '.join(SUFFIXES)}")
    return [Path(path) for path in paths]


def save_figure(figure: Figure, paths: Sequence[Path]) -> None:
    """Write the figure to each path, whole or not at all, and make the folders that are missing."""
    for path in paths:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = _encode(figure, path.suffix.lower()[1:])
            replace_file(path, lambda file, content=picture: file.write(content))
        except OSError as error:
            raise UserError(f"--out {path} cannot be written: {error.strerror or error}") from error


def _encode(figure: Figure, kind: str) -> bytes:
    no_date = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
    picture = io.BytesIO()
    figure.savefig(picture, format=kind, metadata=no_date)
    return picture.getvalue()
