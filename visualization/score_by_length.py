"""Draw the score of a downstream task against the length of its prompts, a line for each method.

    python visualization/score_by_length.py logs/passkey/*/ --out score.png

LOG_DIR is of scripts/eval_downstream_tasks.py; log dirs of one label are one method, at several lengths. Prompts of
about equal length are one point: their mean score, with its standard error by bootstrap over examples. What failed
does not count.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from matplotlib.figure import Figure

from utils.bootstrap import weighted_mean
from utils.program import run_main
from utils.trials.arguments import trial_parser
from utils.trials.finished import lengths_to_mark
from visualization.drawing.arguments import add_picture_arguments
from visualization.drawing.methods import (
    LABELS,
    Method,
    group_of,
    group_starts,
    load_methods,
    mean_lengths,
    method_look,
)
from visualization.drawing.style import COLUMN_WIDTH, add_legend_below, give_picture, mark_length, set_doubling_ticks


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = trial_parser(__doc__, LABELS)
    add_picture_arguments(parser)
    return parser.parse_args(argv)


def draw(methods: Sequence[Method], *, pretraining_length: int | None = None, title: str | None = None) -> Figure:
    """The figure of these methods. Draw and save within paper_style()."""
    figure = Figure(figsize=(COLUMN_WIDTH, 2.0), layout="constrained")
    axes = figure.subplots()
    starts = group_starts(methods)
    entries = []
    for index, method in enumerate(methods):
        there, score, error = scores_by_length(method, starts)
        lengths = mean_lengths(methods, starts)[there]
        bars = axes.errorbar(lengths, score, error, capsize=2, elinewidth=0.8, **method_look(index))
        entries.append((bars, method.label))
    for length in lengths_to_mark(methods, pretraining_length):
        entries.append((mark_length([axes], length), f"pre-training length {length:,}"))
    axes.set(ylim=(-0.03, 1.03), xscale="log", xlabel="prompt length (tokens)", ylabel="score ± standard error")
    set_doubling_ticks(axes.xaxis)
    axes.set_title(f"Score by length: {methods[0].samples[0]['task']}", parse_math=False)
    if title:
        figure.suptitle(title, parse_math=False)
    add_legend_below(figure, *zip(*entries))
    return figure


def scores_by_length(method: Method, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The groups that have examples, int64, and their mean scores and standard errors; NaN where there is one example.

    starts: of the groups, see `group_starts`.
    """
    samples = method.samples
    groups = group_of(samples, starts)
    scores = np.array([sample["score"] for sample in samples], dtype=np.float64)
    there = np.unique(groups)
    means = [weighted_mean(scores[groups == group].tolist()) for group in there]
    return there, *np.array(means, dtype=np.float64).T


def main() -> None:
    arguments = parse_arguments()
    give_picture(
        arguments.out,
        lambda: draw(
            load_methods(arguments.log_dirs, arguments.labels),
            pretraining_length=arguments.pretraining_length,
            title=arguments.title,
        ),
    )


if __name__ == "__main__":
    run_main(main)
