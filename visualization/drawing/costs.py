"""Latency and memory against length, a line for each method."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from utils.trials.examples import ExampleTrial
from utils.trials.experiments import DOWNSTREAM, GENERATION
from utils.trials.samples import Sample
from visualization.drawing.legend import finish_figure, mark_pretraining
from visualization.drawing.methods import Method, finished, group_of, group_starts, looks, mean_lengths, words_of
from visualization.drawing.style import (
    COLUMN_WIDTH,
    set_length_ticks,
    set_plain_log_ticks,
)

PERCENTILES = (50, 10, 90)
BARS = "10–90% of examples"


@dataclass(frozen=True)
class Cost:
    """One panel. of: the cost of an example, `None` where it has no such number. peak: it is that of the run so far."""

    title: str
    label: str
    of: Callable[[Sample], float | None]
    peak: bool = False


def _milliseconds_per_token(sample: Sample) -> float | None:
    return 1000 * sample["decode_seconds"] / sample["generated"] if sample["generated"] else None


def _bytes(name: str, unit: int) -> Callable[[Sample], float | None]:
    return lambda sample: None if sample[name] is None else sample[name] / unit


COSTS = {
    DOWNSTREAM: (
        Cost("Latency", "seconds per example", lambda sample: sample["seconds"]),
        Cost("Peak memory", "GiB", _bytes("memory_bytes", 2**30), peak=True),
    ),
    GENERATION: (
        Cost("Time to the first token", "seconds", lambda sample: sample["prefill_seconds"]),
        Cost("Decoding", "ms per token", _milliseconds_per_token),
        Cost("Cache of a text", "MiB", _bytes("cache_bytes", 2**20)),
    ),
}


def draw(
    methods: Sequence[Method], *, scale: str = "linear", pretraining_length: int | None = None, title: str | None = None
) -> Figure:
    """The figure of these methods. Draw and save within paper_style()."""
    costs = COSTS[methods[0].trials[0].script]
    figure = Figure(figsize=(COLUMN_WIDTH, 0.4 + 1.3 * len(costs)), layout="constrained")
    panels = figure.subplots(len(costs), 1, sharex=True)
    for axes, cost in zip(panels, costs):
        bars = _draw_cost(axes, methods, cost)
        axes.set(yscale=scale, ylabel=cost.label, title=f"{cost.title} by length")
        if scale == "log":
            set_plain_log_ticks(axes.yaxis)
        else:
            axes.set_ylim(bottom=0)
    panels[-1].set(xscale="log", xlabel="length (tokens)")
    set_length_ticks(panels[-1].xaxis, mean_lengths(methods, group_starts(methods)))
    entries = list(zip(bars, [method.label for method in methods]))
    entries.append((Line2D([], [], color="0.35", marker="|", markersize=8, linestyle=""), BARS))
    entries += mark_pretraining(panels, methods, pretraining_length)
    finish_figure(figure, entries, title or words_of(methods))
    return figure


def _draw_cost(axes: Axes, methods: Sequence[Method], cost: Cost) -> list[Artist]:
    starts = group_starts(methods)
    lengths = mean_lengths(methods, starts)
    bars = []
    for own, method in zip(looks(methods), methods):
        middle, low, high = costs_by_length(method, starts, cost)
        there = np.isfinite(middle)
        spread = np.stack([middle - low, high - middle])[:, there]
        look = {"capsize": 2, "elinewidth": 0.8, **own}
        bars.append(axes.errorbar(lengths[there], middle[there], spread, **look))
    return bars


def costs_by_length(method: Method, starts: np.ndarray, cost: Cost) -> np.ndarray:
    """PERCENTILES of the costs of each group's examples, `[3, groups]`, NaN where there is none; see `group_starts`."""
    values: list[list[float]] = [[] for _ in starts]
    for trial in method.trials:
        for group, sample in _countable(trial, starts, cost):
            value = cost.of(sample)
            if value is not None:
                values[group].append(value)
    return np.array([np.percentile(group, PERCENTILES) if group else [np.nan] * 3 for group in values]).T


def _countable(trial: ExampleTrial, starts: np.ndarray, cost: Cost) -> list[tuple[int, Sample]]:
    """A trial's examples with their groups; for a peak, without those that come after a longer one."""
    samples = finished(trial)
    groups = group_of(samples, starts)
    longest = np.maximum.accumulate(groups) if len(groups) else groups
    return [(group, sample) for group, sample, most in zip(groups, samples, longest) if not cost.peak or group == most]
