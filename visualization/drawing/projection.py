"""Hidden states by position, projected on two components, of several diagnoses: factor 3."""

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from visualization.drawing.diagnosis import Diagnosis, HeadChoice
from visualization.drawing.legend import finish_figure
from visualization.drawing.looks import source_words
from visualization.drawing.style import COLUMN_WIDTH, TEXT_WIDTH, set_panel_title

LAYERS = 4
LATER = "viridis"
FAR, FENCE = 8, 3
INSET, INSET_ROOM = (0.62, 0.66, 0.36, 0.26), 5
FIRST = {"marker": "^", "s": 16, "color": "white", "edgecolors": "black", "linewidths": 0.4, "zorder": 3}


def draw(trials: Sequence[Diagnosis], *, layers: Sequence[int] | None = None, title: str | None = None) -> Figure:
    """The figure of these trials; layers: None for some spread over the first trial's. Draw within paper_style()."""
    layers = spread_layers(trials[0]) if layers is None else list(dict.fromkeys(layers))
    figure, panels = _make_panels(len(trials), len(layers))
    last = max(int(trial.arrays["hidden_position"].max()) for trial in trials)
    for trial, row in zip(trials, panels):
        for axes, layer in zip(row, layers):
            triangles = draw_projection(axes, trial, layer, last)
            set_panel_title(axes, f"{trial.label}, layer {layer}" if len(trials) > 1 else f"Layer {layer}")
    add_position_bar(figure, figure.axes, last)
    finish_figure(figure, [(triangles, first_label(trials))], title, source_words(trials))
    return figure


def spread_layers(trial: Diagnosis) -> list[int]:
    """LAYERS of those that were measured, evenly spread."""
    places = np.linspace(0, len(trial.layers) - 1, LAYERS).round().astype(int)
    return [trial.layers[place] for place in np.unique(places)]


def _make_panels(trials: int, layers: int) -> tuple[Figure, np.ndarray]:
    """A row for each trial; of a single one the layers are wrapped at a column's width."""
    rows, columns = (trials, layers) if trials > 1 else (-(-layers // 2), min(layers, 2))
    width = TEXT_WIDTH if columns > 2 else COLUMN_WIDTH
    figure = Figure(figsize=(width, 0.9 * width * rows / max(columns, 2)), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat[trials * layers :]:
        axes.remove()
    return figure, panels.reshape(trials, -1)


def draw_projection(axes: Axes, trial: Diagnosis, layer: int, last: int) -> Artist:
    """Draw one panel and label its axes; returns the first tokens, for a legend.

    last: the position of the lightest colour.
    """
    row = trial.rows(HeadChoice(layers=(layer,)))[0]
    across, up = trial.arrays["hidden_coordinates"][row, :, :2].T
    position = trial.arrays["hidden_position"]
    first = position < trial.arrays["first_tokens"]
    later = {"c": position[~first], "cmap": LATER, "norm": Normalize(0, last), "s": 3, "linewidths": 0}
    _scatter(axes, across, up, first, later)
    handle = axes.scatter(across[first], up[first], **FIRST)
    if far_apart(across, up):
        _show_cloud(axes, across, up, first, later)
    ratios = trial.arrays["explained_variance_ratio"][row]
    for number, (axis, ratio) in enumerate(zip((axes.xaxis, axes.yaxis), ratios), start=1):
        axis.set_label_text(f"PC {number} ({100 * ratio:.2g}%)" if np.isfinite(ratio) else f"PC {number}")
        axis.set_major_locator(MaxNLocator(3))
    return handle


def far_apart(across: np.ndarray, up: np.ndarray) -> bool:
    """Whether a few points are so far from all others that these would be drawn as a line or a dot."""
    return any(np.ptp(values) > FAR * (high - low) for values in (across, up) for low, high in [_core(values)])


def _core(values: np.ndarray) -> np.ndarray:
    """The least and the largest value that is no outlier: within FENCE times the quartiles' distance of these."""
    low, high = np.percentile(values, (25, 75))
    fence = FENCE * (high - low)
    inside = values[(values >= low - fence) & (values <= high + fence)]
    return np.array([inside.min(), inside.max()])


def _scatter(axes: Axes, across: np.ndarray, up: np.ndarray, first: np.ndarray, later: dict[str, object]) -> None:
    axes.scatter(across[~first], up[~first], rasterized=True, **later)


def _show_cloud(axes: Axes, across: np.ndarray, up: np.ndarray, first: np.ndarray, later: dict[str, object]) -> None:
    """Have the panel show the many, and an inset in its corner all of them, at its own scale."""
    for values, limit in ((across, axes.set_xlim), (up, axes.set_ylim)):
        low, high = _core(values)
        margin = 0.15 * (high - low) or 0.5
        limit(low - margin, high + margin * (INSET_ROOM if limit == axes.set_ylim else 1))
    inset = axes.inset_axes(INSET)
    _scatter(inset, across, up, first, later | {"s": 1.5})
    inset.scatter(across[first], up[first], **FIRST | {"s": 8})
    inset.set(xticks=(), yticks=())
    inset.margins(0.15)
    inset.set_title("all tokens", fontsize=5.5, pad=1.5)
    for spine in inset.spines.values():
        spine.set(visible=True, linewidth=0.4)


def first_label(trials: Sequence[Diagnosis]) -> str:
    """Words for the triangles of these trials."""
    counts = {int(trial.arrays["first_tokens"]) for trial in trials}
    return f"first {counts.pop():,} tokens" if len(counts) == 1 else "first tokens"


def add_position_bar(figure: Figure, panels: Sequence[Axes], last: int) -> None:
    """The scale of the dots' colours, beside the panels."""
    colours = ScalarMappable(Normalize(0, last), LATER)
    bar = figure.colorbar(colours, ax=panels, label="position (tokens)", aspect=30, pad=0.02)
    bar.outline.set_visible(False)
