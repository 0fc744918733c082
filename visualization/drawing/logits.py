"""Attention logits against relative distance, of several diagnoses: factor 1."""

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utils.trials.finished import lengths_to_mark
from visualization.drawing.diagnosis import ALL_HEADS, Diagnosis, HeadChoice
from visualization.drawing.head_curves import HeadCurve, band_words, draw_head_curves, finish_head_figure
from visualization.drawing.looks import looks_of
from visualization.drawing.style import COLUMN_WIDTH, set_panel_title, set_token_ticks

STATISTICS = {"max": "largest logit", "mean": "mean logit", "bound": "largest logit up to a distance"}
PANEL_HEIGHT = 1.7
FIRST = "#F2E3C4"
DISTANCE = "relative distance (tokens)"


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
        axes.set_xlabel(None)
        set_panel_title(axes, f"Grows most: {shown}")
    set_panel_title(panels[0], f"{STATISTICS[statistic].capitalize()} by distance, {choice}")
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
    return draw_head_curves(axes, curves, looks_of(trials))


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
