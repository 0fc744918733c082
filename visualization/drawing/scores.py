"""Score of a downstream task against the length of its prompts, a line for each method."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from utils.bootstrap import weighted_mean
from visualization.drawing.legend import finish_figure, mark_pretraining
from visualization.drawing.methods import Method, group_of, group_starts, mean_lengths, method_look
from visualization.drawing.style import COLUMN_WIDTH, set_doubling_ticks


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
    entries += mark_pretraining([axes], methods, pretraining_length)
    axes.set(ylim=(-0.03, 1.03), xscale="log", xlabel="prompt length (tokens)", ylabel="score ± standard error")
    set_doubling_ticks(axes.xaxis)
    axes.set_title(f"Score by length: {methods[0].samples[0]['task']}", parse_math=False)
    finish_figure(figure, entries, title)
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
