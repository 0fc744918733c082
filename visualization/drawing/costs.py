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
from visualization.drawing.lengths import LengthGroups
from visualization.drawing.methods import Method, finished, looks, words_of
from visualization.drawing.style import AXIS_WIDTH, COLUMN_WIDTH, set_length_ticks, set_plain_log_ticks

PERCENTILES = (50, 10, 90)
HEADROOM = 1.07  # for whole markers
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
    figure = Figure(figsize=(COLUMN_WIDTH, 0.4 + 1.45 * len(costs)), layout="constrained")
    panels = figure.subplots(len(costs), 1, sharex=True)
    groups = LengthGroups.over(methods)
    for axes, cost in zip(panels, costs):
        bars = _draw_cost(axes, methods, cost, groups)
        axes.set(yscale=scale, ylabel=cost.label, title=f"{cost.title} by length")
        if scale == "log":
            set_plain_log_ticks(axes.yaxis)
        else:
            axes.set_ylim(0, HEADROOM * axes.dataLim.ymax)
    panels[-1].set(xscale="log", xlabel=groups.axis)
    set_length_ticks(panels[-1].xaxis, groups.lengths, AXIS_WIDTH)
    entries = list(zip(bars, [method.label for method in methods]))
    entries.append((Line2D([], [], color="0.35", marker="|", markersize=8, linestyle=""), BARS))
    entries += mark_pretraining(panels, methods, pretraining_length, lengths=groups.lengths)
    finish_figure(figure, entries, title, words_of(methods))
    return figure


def _draw_cost(axes: Axes, methods: Sequence[Method], cost: Cost, groups: LengthGroups) -> list[Artist]:
    bars = []
    for own, method in zip(looks(methods), methods):
        middle, low, high = costs_by_length(method, groups, cost)
        there = np.isfinite(middle)
        spread = np.stack([middle - low, high - middle])[:, there]
        look = {"capsize": 2, "elinewidth": 0.8, **own}
        bars.append(axes.errorbar(groups.lengths[there], middle[there], spread, **look))
    return bars


def costs_by_length(method: Method, groups: LengthGroups, cost: Cost) -> np.ndarray:
    """PERCENTILES of the costs of each group's examples, `[3, groups]`, NaN where there is none."""
    values: list[list[float]] = [[] for _ in groups.starts]
    for trial in method.trials:
        for group, sample in _countable(trial, groups, cost):
            value = cost.of(sample)
            if value is not None:
                values[group].append(value)
    return np.array([np.percentile(own, PERCENTILES) if own else [np.nan] * 3 for own in values]).T


def _countable(trial: ExampleTrial, groups: LengthGroups, cost: Cost) -> list[tuple[int, Sample]]:
    """A trial's examples with their groups; for a peak, without those that come after a longer one."""
    samples = finished(trial)
    places = groups.of(samples)
    longest = np.maximum.accumulate(places) if len(places) else places
    return [(place, sample) for place, sample, most in zip(places, samples, longest) if not cost.peak or place == most]
