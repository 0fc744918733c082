"""Draw hidden states by position: factor 3, the first tokens live in a region of their own.

    python visualization/position_pca.py LOG_DIR [LOG_DIR ...] --labels vanilla Λ --layer 5 15 25 --out position.png

LOG_DIR is of scripts/diagnose.py. What enters a layer's attention is projected on its two principal components, over
the beginnings of all documents: a panel for each trial and layer, and by default four layers spread over the model.
Triangles are the first tokens, as many as the trial counts as such; dots are later ones, lighter the later. Beside the
number of a component is its share of the variance; the coordinates have the unit of the hidden states.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from utils.arguments import whole_number
from utils.program import run_main
from utils.trials.arguments import trial_parser
from visualization.drawing.arguments import add_picture_arguments
from visualization.drawing.diagnosis import Diagnosis, HeadChoice, load_diagnoses
from visualization.drawing.style import COLUMN_WIDTH, TEXT_WIDTH, add_legend_below, give_picture

LAYERS = 4
LATER = "viridis"
FIRST = {"marker": "^", "s": 16, "color": "#D55E00", "edgecolors": "black", "linewidths": 0.4, "zorder": 3}


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = trial_parser(__doc__)
    add_picture_arguments(parser)
    parser.add_argument(
        "--layer",
        type=whole_number(0),
        nargs="+",
        metavar="N",
        help=f"layers to draw, counted from 0 (default: {LAYERS} of those that were measured, the first and last among "
        "them)",
    )
    return parser.parse_args(argv)


def draw(trials: Sequence[Diagnosis], *, layers: Sequence[int] | None = None, title: str | None = None) -> Figure:
    """The figure of these trials; layers: None for some spread over the first trial's. Draw within paper_style()."""
    layers = spread_layers(trials[0]) if layers is None else list(dict.fromkeys(layers))
    figure, panels = _make_panels(len(trials), len(layers))
    last = max(int(trial.arrays["hidden_position"].max()) for trial in trials)
    for trial, row in zip(trials, panels):
        for axes, layer in zip(row, layers):
            triangles = draw_projection(axes, trial, layer, last)
            axes.set_title(f"{trial.label}, layer {layer}" if len(trials) > 1 else f"Layer {layer}", parse_math=False)
    add_position_bar(figure, figure.axes, last)
    if title:
        figure.suptitle(title, parse_math=False)
    add_legend_below(figure, [triangles], [first_label(trials)])
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
    axes.scatter(across[~first], up[~first], rasterized=True, **later)
    handle = axes.scatter(across[first], up[first], **FIRST)
    ratios = trial.arrays["explained_variance_ratio"][row]
    for number, (axis, ratio) in enumerate(zip((axes.xaxis, axes.yaxis), ratios), start=1):
        axis.set_label_text(f"PC {number} ({ratio:.0%})" if np.isfinite(ratio) else f"PC {number}")
        axis.set_major_locator(MaxNLocator(3))
    return handle


def first_label(trials: Sequence[Diagnosis]) -> str:
    """Words for the triangles of these trials."""
    counts = {int(trial.arrays["first_tokens"]) for trial in trials}
    return f"first {counts.pop():,} tokens" if len(counts) == 1 else "first tokens"


def add_position_bar(figure: Figure, panels: Sequence[Axes], last: int) -> None:
    """The scale of the dots' colours, beside the panels."""
    colours = ScalarMappable(Normalize(0, last), LATER)
    bar = figure.colorbar(colours, ax=panels, label="position (tokens)", aspect=30, pad=0.02)
    bar.outline.set_visible(False)


def main() -> None:
    arguments = parse_arguments()
    give_picture(
        arguments.out,
        lambda: draw(
            load_diagnoses(arguments.log_dirs, arguments.labels), layers=arguments.layer, title=arguments.title
        ),
    )


if __name__ == "__main__":
    run_main(main)
