"""Entropy of attention against length, of several diagnoses: factor 2."""

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from utils.trials.diagnosis_arrays import relative_entropy
from visualization.drawing.diagnosis import ALL_HEADS, Diagnosis, HeadChoice
from visualization.drawing.head_curves import HeadCurve, band_words, draw_head_curves, finish_head_figure
from visualization.drawing.legend import Entry
from visualization.drawing.looks import looks_of
from visualization.drawing.style import COLUMN_WIDTH, set_panel_title, set_token_ticks

LABELS = {"nats": "entropy (nats)", "attended": "entropy / log(attended tokens)", "all": "entropy / log n"}
MOMENTS = ("mean", "deviation")
UNIFORM = {"color": "0.55", "linewidth": 0.8, "zorder": 1}


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
    set_panel_title(axes, f"Entropy of the attention, {choice}")
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
    lines = draw_head_curves(axes, curves, looks_of(trials))
    axes.set_ylim(bottom=0)
    return lines


def uniform_entry() -> Entry:
    """The line of uniform attention, for a legend."""
    return Line2D([], [], **UNIFORM), "uniform attention, log n"


def in_unit(trial: Diagnosis, entropy: np.ndarray, unit: str) -> np.ndarray:
    """entropy, or a deviation of it, `[l, h, p]` in nats, in a unit of LABELS."""
    if unit == "nats":
        return entropy
    tokens = trial.arrays["attended"][:, None] if unit == "attended" else trial.arrays["positions"] + 1
    return relative_entropy(entropy, tokens)
