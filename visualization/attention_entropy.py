"""Draw the entropy of attention against length: factor 2, entropy that grows with the number of tokens.

    python visualization/attention_entropy.py LOG_DIR [LOG_DIR ...] --labels vanilla Λ --out entropy.png

LOG_DIR is of scripts/diagnose.py. A query at position i has i + 1 tokens to attend to: the line is the median over
heads of its attention's entropy, averaged over documents, and the band holds 8 heads of 10. Attention that is uniform
over all tokens has the largest entropy that there is, log n.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from utils.program import run_main
from utils.trials.arguments import trial_parser
from utils.trials.diagnosis_arrays import relative_entropy
from visualization.drawing.arguments import add_head_arguments, add_picture_arguments
from visualization.drawing.diagnosis import ALL_HEADS, Diagnosis, HeadChoice, load_diagnoses
from visualization.drawing.head_curves import HeadCurve, band_words, draw_head_curves, finish_head_figure
from visualization.drawing.style import COLUMN_WIDTH, give_picture, set_token_ticks

LABELS = {"nats": "entropy (nats)", "attended": "entropy / log(attended tokens)", "all": "entropy / log n"}
MOMENTS = ("mean", "deviation")
UNIFORM = {"color": "0.55", "linewidth": 0.8, "zorder": 1}


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = trial_parser(__doc__)
    add_picture_arguments(parser)
    add_head_arguments(parser)
    parser.add_argument(
        "--unit",
        choices=tuple(LABELS),
        default="nats",
        help="nats, or a share of the entropy that attention would have if it were uniform over the tokens that a "
        "query attends to, or over all n up to it (default: %(default)s)",
    )
    parser.add_argument(
        "--x", choices=("linear", "log"), default="linear", help="axis of lengths (default: %(default)s)"
    )
    return parser.parse_args(argv)


def draw(
    trials: Sequence[Diagnosis],
    *,
    choice: HeadChoice = ALL_HEADS,
    unit: str = "nats",
    scale: str = "linear",
    pretraining_length: int | None = None,
    title: str | None = None,
) -> Figure:
    """The figure of these trials; unit: a key of LABELS. Draw and save within paper_style()."""
    figure = Figure(figsize=(COLUMN_WIDTH, 2.2), layout="constrained")
    axes = figure.subplots()
    lines = draw_entropy(axes, trials, choice, unit, scale)
    axes.set_title(f"Entropy of the attention, {choice}")
    bands = band_words(trials, [choice])
    more = [uniform_entry()] if unit == "nats" else []
    finish_head_figure(
        figure, trials, lines, panels=[axes], bands=bands, more=more, pretraining_length=pretraining_length, title=title
    )
    return figure


def draw_entropy(
    axes: Axes, trials: Sequence[Diagnosis], choice: HeadChoice = ALL_HEADS, unit: str = "nats", scale: str = "linear"
) -> list[Artist]:
    """Draw one panel and label its axes; returns a line for each trial."""
    curves = [
        HeadCurve.of(
            trial.arrays["positions"] + 1,
            *(trial.of_heads(in_unit(trial, trial.arrays[f"entropy_{name}"], unit), choice) for name in MOMENTS),
        )
        for trial in trials
    ]
    longest = max(trial.length for trial in trials)
    axes.set(xlabel="length n (tokens)", ylabel=LABELS[unit], xscale=scale)
    if unit == "nats":
        lengths = np.geomspace(1, longest, 200)
        axes.plot(lengths, np.log(lengths), **UNIFORM)
    if scale == "linear":
        axes.set_xlim(0, longest)
        set_token_ticks(axes.xaxis, longest)
    lines = draw_head_curves(axes, curves)
    axes.set_ylim(bottom=0)
    return lines


def uniform_entry() -> tuple[Artist, str]:
    """The line of uniform attention, for a legend."""
    return Line2D([], [], **UNIFORM), "uniform attention, log n"


def in_unit(trial: Diagnosis, entropy: np.ndarray, unit: str) -> np.ndarray:
    """entropy, or a deviation of it, `[l, h, p]` in nats, in a unit of LABELS."""
    if unit == "nats":
        return entropy
    tokens = trial.arrays["attended"][:, None] if unit == "attended" else trial.arrays["positions"] + 1
    return relative_entropy(entropy, tokens)


def main() -> None:
    arguments = parse_arguments()
    give_picture(
        arguments.out,
        lambda: draw(
            load_diagnoses(arguments.log_dirs, arguments.labels),
            choice=HeadChoice.of(arguments.layer, arguments.head),
            unit=arguments.unit,
            scale=arguments.x,
            pretraining_length=arguments.pretraining_length,
            title=arguments.title,
        ),
    )


if __name__ == "__main__":
    run_main(main)
