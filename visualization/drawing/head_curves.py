"""Curves of many heads, as one line and a band per trial: what the pictures of logits and of entropy share."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from visualization.drawing.diagnosis import Diagnosis, HeadChoice
from visualization.drawing.legend import Entry, band_patch, finish_figure, mark_pretraining
from visualization.drawing.looks import Look, source_words

PERCENTILES = (10, 50, 90)
SHORT_RUN = 4  # points: a line through so few of a picture's hundreds is hard to see


@dataclass(frozen=True)
class HeadCurve:
    """One trial's line and band over places; arrays `[n]`, NaN where nothing was measured.

    Of several heads, the median and the 10th and 90th percentiles; of one head, its mean over documents, and a standard
    deviation over them to either side.
    """

    place: np.ndarray
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, place: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> "HeadCurve":
        """place: `[n]`; mean, deviation: over documents, `[l, h, n]`."""
        heads = mean.reshape(-1, mean.shape[-1])
        if len(heads) == 1:
            spread = deviation.reshape(-1)
            return cls(place, heads[0], heads[0] - spread, heads[0] + spread)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # where there is no head with a number, there is none here
            low, middle, high = np.nanpercentile(heads, PERCENTILES, axis=0)
        return cls(place, middle, low, high)


def draw_head_curves(axes: Axes, curves: Sequence[HeadCurve], looks: Sequence[Look]) -> list[Artist]:
    """Draw each with its trial's look; returns the lines, for a legend. Points that a line hardly shows are dots."""
    lines = []
    for look, curve in zip(looks, curves):
        band = {"color": look["color"], "alpha": 0.2, "zorder": 1}
        lines += axes.plot(curve.place, curve.middle, **look)
        axes.fill_between(curve.place, curve.low, curve.high, linewidth=0, **band)
        alone = in_short_runs(curve.middle)
        axes.plot(curve.place[alone], curve.middle[alone], "o", markersize=2.5, color=look["color"])
        axes.vlines(curve.place[alone], curve.low[alone], curve.high[alone], linewidth=2, **band)
    return lines


def in_short_runs(values: np.ndarray) -> np.ndarray:
    """Mask of the values that are numbers among at most SHORT_RUN in a row, with NaN or nothing around them."""
    there = np.isfinite(values)
    starts = np.flatnonzero(np.diff(there, prepend=False) & there)
    ends = np.flatnonzero(np.diff(there, append=False) & there) + 1
    short = np.zeros(len(values), dtype=bool)
    for start, end in zip(starts, ends):
        short[start:end] = end - start <= SHORT_RUN
    return short


def band_words(trials: Sequence[Diagnosis], choices: Sequence[HeadChoice]) -> list[str]:
    """Words for the bands of these trials' curves, in panels of these heads; a head in one document has none."""
    single = {trials[0].number_of_heads(choice) == 1 for choice in choices}
    words = ["10–90% of heads"] if False in single else []
    if True in single and max(trial.documents for trial in trials) > 1:
        words.append("± 1 s.d. over documents" if len(single) == 1 else "± 1 s.d. (one head)")
    return words


def finish_head_figure(
    figure: Figure,
    trials: Sequence[Diagnosis],
    lines: Sequence[Artist],
    *,
    panels: Sequence[Axes],
    bands: Sequence[str],
    more: Sequence[Entry] = (),
    pretraining_length: int | None = None,
    title: str | None = None,
) -> None:
    """Mark pre-training lengths in `panels`, and add the title and the legend.

    bands: what the bands show; more: further entries.
    """
    entries = list(zip(lines, [trial.label for trial in trials]))
    entries += [(band_patch(), words) for words in bands] + list(more)
    entries += mark_pretraining(panels, trials, pretraining_length)
    finish_figure(figure, entries, title, source_words(trials))
