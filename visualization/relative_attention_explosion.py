"""Draw attention logits against relative distance: factor 1, distances that pre-training never showed.

    python visualization/relative_attention_explosion.py LOG_DIR [LOG_DIR ...] --labels vanilla Λ --out logits.png

LOG_DIR is of scripts/diagnose.py. Upper panel: the largest logit at each distance, over the last queries of a document;
the line is the median over heads, the band holds 8 heads of 10. Lower panel: the one head of the first trial that grows
most past the pre-training length, averaged over documents. At the largest distances, shaded, lie the first tokens, on
which much attention falls at any length: they do not count for growth. Where no key is attended there is no line:
Λ-attention attends to the window and, far away, to the first tokens only, which are dots. A chosen head has one panel.
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

from utils.program import run_main
from utils.trials.arguments import trial_parser
from utils.trials.finished import lengths_to_mark
from visualization.drawing.arguments import add_head_arguments, add_picture_arguments
from visualization.drawing.diagnosis import ALL_HEADS, Diagnosis, HeadChoice, load_diagnoses
from visualization.drawing.head_curves import HeadCurve, band_words, draw_head_curves, finish_head_figure
from visualization.drawing.style import COLUMN_WIDTH, give_picture, set_token_ticks

STATISTICS = {"max": "largest logit", "mean": "mean logit", "bound": "largest logit up to a distance"}
PANEL_HEIGHT = 1.7
FIRST = "#F2E3C4"
DISTANCE = "relative distance (tokens)"


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = trial_parser(__doc__)
    add_picture_arguments(parser)
    add_head_arguments(parser)
    parser.add_argument(
        "--statistic",
        choices=tuple(STATISTICS),
        default="max",
        help="of the logits at a distance: the largest, the mean, or the largest at any distance up to there "
        "(default: %(default)s)",
    )
    return parser.parse_args(argv)


def draw(
    trials: Sequence[Diagnosis],
    *,
    choice: HeadChoice = ALL_HEADS,
    statistic: str = "max",
    pretraining_length: int | None = None,
    title: str | None = None,
) -> Figure:
    """The figure of these trials; statistic: a key of STATISTICS. Draw and save within paper_style()."""
    choices = [choice]
    if trials[0].number_of_heads(choice) > 1:
        choices.append(growing_head(trials[0], choice, pretraining_length))
    figure = Figure(figsize=(COLUMN_WIDTH, PANEL_HEIGHT * len(choices)), layout="constrained")
    panels = figure.subplots(len(choices), 1, sharex=True, squeeze=False)[:, 0]
    for axes, shown in zip(panels, choices):
        lines = draw_logits(axes, trials, shown, statistic)
        axes.set(xlabel=None, title=f"Grows most: {shown}")
    panels[0].set_title(f"{STATISTICS[statistic].capitalize()} by distance, {choice}")
    panels[-1].set_xlabel(DISTANCE)
    bands = band_words(trials, choices)
    more = [(shade_first_tokens(panels, trials), "first tokens")]
    finish_head_figure(
        figure, trials, lines, panels=panels, bands=bands, more=more, pretraining_length=pretraining_length, title=title
    )
    return figure


def draw_logits(axes: Axes, trials: Sequence[Diagnosis], choice: HeadChoice, statistic: str = "max") -> list[Artist]:
    """Draw one panel and label its axes; returns a line for each trial."""
    curves = [
        HeadCurve.of(
            trial.distances,
            *(trial.of_heads(trial.arrays[f"logit_{statistic}_{moment}"], choice) for moment in ("mean", "deviation")),
        )
        for trial in trials
    ]
    longest = max(trial.length for trial in trials)
    axes.set(xlabel=DISTANCE, ylabel="logit", xlim=(0, longest))
    set_token_ticks(axes.xaxis, longest)
    return draw_head_curves(axes, curves)


def shade_first_tokens(panels: Sequence[Axes], trials: Sequence[Diagnosis]) -> Artist:
    """Shade the distances at which the first tokens of the longest text lie."""
    longest = max(trials, key=lambda trial: trial.length)
    spans = [
        axes.axvspan(longest.first_distance, longest.length, color=FIRST, linewidth=0, zorder=0.5) for axes in panels
    ]
    return spans[-1]


def growing_head(trial: Diagnosis, choice: HeadChoice, pretraining_length: int | None = None) -> HeadChoice:
    """Among the chosen heads, the one whose largest logit past the pre-training length exceeds that within it by most.

    Where no text reaches past it, the head with the largest logit.
    """
    largest = trial.of_heads(trial.arrays["logit_max_mean"], choice)
    beyond = min(lengths_to_mark([trial], pretraining_length), default=trial.length)
    middle = largest[..., (trial.distances >= beyond) & (trial.distances < trial.first_distance)]
    growth = _largest(middle) - _largest(largest[..., trial.distances < beyond])
    if not np.isfinite(growth).any():
        growth = _largest(largest)
    row, place = np.unravel_index(np.nanargmax(growth), largest.shape[:2])
    layer = trial.layers[trial.rows(choice)[row]]
    head = int(place) if choice.heads is None else choice.heads[place]
    return HeadChoice((layer,), (head,))


def _largest(values: np.ndarray) -> np.ndarray:
    """The largest value over the last axis, NaN where there is none."""
    return np.fmax.reduce(values, axis=-1, initial=np.nan)


def main() -> None:
    arguments = parse_arguments()
    give_picture(
        arguments.out,
        lambda: draw(
            load_diagnoses(arguments.log_dirs, arguments.labels),
            choice=HeadChoice.of(arguments.layer, arguments.head),
            statistic=arguments.statistic,
            pretraining_length=arguments.pretraining_length,
            title=arguments.title,
        ),
    )


if __name__ == "__main__":
    run_main(main)
