"""Score of a downstream task against the length of its prompts, a line for each method."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from utils.trials.summary import Summary, summarise_task
from visualization.drawing.legend import finish_figure, mark_pretraining
from visualization.drawing.lengths import LengthGroups
from visualization.drawing.methods import Method, count_words, looks, measure_of, words_of
from visualization.drawing.style import AXIS_WIDTH, COLUMN_WIDTH, set_length_ticks

BARS = {"capsize": 2, "elinewidth": 0.8}


def draw(methods: Sequence[Method], *, pretraining_length: int | None = None, title: str | None = None) -> Figure:
    """The figure of these methods. Draw and save within paper_style()."""
    figure = Figure(figsize=(COLUMN_WIDTH, 2.2), layout="constrained")
    axes = figure.subplots()
    groups = LengthGroups.over(methods)
    entries, counts = [], []
    for look, method in zip(looks(methods), methods):
        points = scores_by_length(method, groups)
        lengths = groups.lengths[points.groups]
        entries.append((axes.errorbar(lengths, points.scores, points.bars, **BARS | look), method.label))
        counts += points.examples.tolist()
    entries += mark_pretraining([axes], methods, pretraining_length, lengths=groups.lengths)
    axes.set(
        ylim=(-0.03, 1.03), xscale="log", xlabel=groups.axis, ylabel=f"{measure_of(methods)}\n({spread_of(methods)})"
    )
    set_length_ticks(axes.xaxis, groups.lengths, AXIS_WIDTH)
    finish_figure(figure, entries, title, f"{words_of(methods)}; {count_words(counts)} a point")
    return figure


def spread_of(methods: Sequence[Method]) -> str:
    """What the bars are."""
    proportion = any(summarise_task(method.samples)["interval"] for method in methods)
    return "95 % interval" if proportion else "± 1 standard error"


@dataclass(frozen=True)
class Points:
    """The groups that have examples, int64 `[g]`, their scores, and their numbers of examples, `[g]`.

    bars: how far they reach below and above, `[2, g]`: the 95 % interval of a proportion, else one standard error each
    way; NaN where there is one example.
    """

    groups: np.ndarray
    scores: np.ndarray
    examples: np.ndarray
    bars: np.ndarray


def scores_by_length(method: Method, groups: LengthGroups) -> Points:
    """A method's scores in each group of lengths."""
    samples = method.samples
    places = groups.of(samples)
    there, counts = np.unique(places, return_counts=True)
    found = [summarise_task([samples[place] for place in np.flatnonzero(places == group)]) for group in there]
    bars = np.array([_reach(one) for one in found], dtype=np.float64).T
    return Points(there, np.array([one["score"] for one in found]), counts, bars)


def _reach(found: Summary) -> tuple[float | None, float | None]:
    if found["interval"] is None:
        return found["standard_error"], found["standard_error"]
    low, high = found["interval"]
    return max(0.0, found["score"] - low), max(0.0, high - found["score"])
