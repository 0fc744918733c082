"""Score of a downstream task against the length of its prompts, a line for each method."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from utils.trials.summary import Summary, summarise_task
from visualization.drawing.legend import finish_figure, mark_pretraining
from visualization.drawing.methods import Method, group_of, group_starts, looks, mean_lengths, words_of
from visualization.drawing.style import COLUMN_WIDTH, set_length_ticks


def draw(methods: Sequence[Method], *, pretraining_length: int | None = None, title: str | None = None) -> Figure:
    """The figure of these methods. Draw and save within paper_style()."""
    figure = Figure(figsize=(COLUMN_WIDTH, 2.0), layout="constrained")
    axes = figure.subplots()
    starts = group_starts(methods)
    entries = []
    for look, method in zip(looks(methods), methods):
        there, score, bars = scores_by_length(method, starts)
        lengths = mean_lengths(methods, starts)[there]
        drawn = axes.errorbar(lengths, score, bars, capsize=2, elinewidth=0.8, **look)
        entries.append((drawn, method.label))
    entries += mark_pretraining([axes], methods, pretraining_length)
    axes.set(ylim=(-0.03, 1.03), xscale="log", xlabel="prompt length (tokens)", ylabel=measure(methods))
    set_length_ticks(axes.xaxis, mean_lengths(methods, starts))
    axes.set_title(f"Score by length: {words_of(methods)}", parse_math=False)
    finish_figure(figure, entries, title)
    return figure


def measure(methods: Sequence[Method]) -> str:
    """What the scores are called, and what the bars are."""
    names = {trial.results.get("metric", "score") for method in methods for trial in method.trials}
    proportion = any(summarise_task(method.samples)["interval"] for method in methods)
    name = names.pop().replace("_", " ") if len(names) == 1 else "score"
    return f"{name} ({'95 % interval' if proportion else '± 1 standard error'})"


def scores_by_length(method: Method, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The groups that have examples, int64 [g], their scores [g], and how far bars reach below and above, [2, g].

    A bar is the 95 % interval of a proportion, else one standard error each way; NaN where there is one example.
    starts: of the groups, see `group_starts`.
    """
    samples = method.samples
    groups = group_of(samples, starts)
    there = np.unique(groups)
    found = [summarise_task([samples[place] for place in np.flatnonzero(groups == group)]) for group in there]
    bars = np.array([_reach(one) for one in found], dtype=np.float64).T
    return there, np.array([one["score"] for one in found]), bars


def _reach(found: Summary) -> tuple[float | None, float | None]:
    if found["interval"] is None:
        return found["standard_error"], found["standard_error"]
    low, high = found["interval"]
    return max(0.0, found["score"] - low), max(0.0, high - found["score"])
