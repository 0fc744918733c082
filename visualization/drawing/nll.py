"""NLL against position, of several trials of documents or of streams."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utils.trials.nll_trials import NllTrial, StreamTrial
from visualization.drawing.curves import Curve, Scale, position_curve
from visualization.drawing.legend import band_patch, finish_figure, mark_pretraining
from visualization.drawing.looks import Look, looks_of, source_words
from visualization.drawing.stream_curves import stream_curve
from visualization.drawing.style import (
    COLUMN_WIDTH,
    set_decade_ticks,
    set_stream_ticks,
    set_token_ticks,
)

BANDS = {"sem": "standard_error", "std": "deviation"}
SMOOTHING = 512
FIRST_SHARE, HEADROOM = 0.02, 0.5
STREAM_PART = 100  # the default window of a linear picture of streams is so small a part of it


def draw(
    trials: Sequence[NllTrial],
    *,
    smoothing: int | None = None,
    scale: Scale | None = None,
    band: str = "sem",
    pretraining_length: int | None = None,
    ylim: tuple[float, float] | None = None,
    title: str | None = None,
) -> Figure:
    """The figure of these trials, all of documents or all of streams. Draw and save within paper_style().

    smoothing and scale: None for what --help tells of them; band: a key of BANDS or "none".
    """
    scale = scale or ("log" if _of_streams(trials) else "linear")
    curves = make_curves(trials, smoothing, scale)
    figure, panels = _make_panels(_of_streams(trials))
    looks = looks_of(trials)
    entries = list(zip(_draw_curves(panels[0], curves, looks), [trial.label for trial in trials]))
    if band != "none" and _draw_band(panels[0], curves, BANDS[band], looks):
        entries.append((band_patch(), band_label(trials, band)))
    if len(panels) > 1:
        _draw_documents(panels[1], curves, looks)
    entries += mark_pretraining(panels, trials, pretraining_length)
    _label_axes(panels, trials, scale)
    if ylim is None:
        limit_nll(panels[0], curves, scale)
    else:
        panels[0].set_ylim(ylim)
    finish_figure(figure, entries, title, source_words(trials))
    return figure


def make_curves(trials: Sequence[NllTrial], smoothing: int | None, scale: Scale) -> list[Curve]:
    """The trials' curves; smoothing None is the default that --help tells."""
    if not _of_streams(trials):
        return [position_curve(trial.arrays, smoothing=smoothing or SMOOTHING, scale=scale) for trial in trials]
    if smoothing is None:
        longest = max(trial.length for trial in trials)
        smoothing = max(SMOOTHING, longest // STREAM_PART) if scale == "linear" else SMOOTHING
    return [stream_curve(trial.arrays, smoothing=smoothing, scale=scale) for trial in trials]


def limit_nll(axes: Axes, curves: Sequence[Curve], scale: Scale) -> None:
    """Have a linear axis of positions show all but the first ones, whose NLL would stretch that of NLL; say so.

    What is cut lies before FIRST_SHARE of the positions, and above all that comes later by more than HEADROOM of that
    range. On a logarithmic axis the first positions have room, and all are shown.
    """
    low = max(axes.get_ylim()[0], 0)  # NLL is never negative, a band's edge may be
    axes.set_ylim(bottom=low)
    if scale != "linear":
        return
    late = [curve.mean[curve.position >= FIRST_SHARE * curve.position[-1]] for curve in curves]
    most = max(np.nanmax(curve.mean) for curve in curves)
    least, highest = min(np.nanmin(part) for part in late), max(np.nanmax(part) for part in late)
    top = highest + HEADROOM * (highest - least)
    if most > top > low:
        axes.set_ylim(top=top)
        axes.set_title(f"first tokens cut, at up to {most:.1f}", fontsize=6, color="0.35", loc="right", pad=2)


def band_label(trials: Sequence[NllTrial], band: str) -> str:
    """Words for the band of these trials, for the legend."""
    name = {"sem": "± 1 standard error", "std": "± 1 s.d."}[band]
    if not _of_streams(trials):
        return name if band == "sem" else f"{name} over documents"
    samples = {"streams" if trial.streams > 1 else "tokens" for trial in trials if trial.streams > 1 or band == "sem"}
    return f"{name} over {' or '.join(sorted(samples))}"


def _of_streams(trials: Sequence[NllTrial]) -> bool:
    return isinstance(trials[0], StreamTrial)


def _make_panels(streams: bool) -> tuple[Figure, list[Axes]]:
    """A panel for NLL and, but for streams, one below it for the number of documents."""
    figure = Figure(figsize=(COLUMN_WIDTH, 2.0 if streams else 2.4), layout="constrained")
    if streams:
        return figure, [figure.subplots()]
    return figure, list(figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (5, 1)}))


def _draw_curves(axes: Axes, curves: Sequence[Curve], looks: Sequence[Look], quantity: str = "mean") -> list[Artist]:
    handles: list[Artist] = []
    for look, curve in zip(looks, curves):
        marker = "o" if len(curve.position) == 1 else None  # a line through one point is not to be seen
        values = getattr(curve, quantity)
        handles += axes.plot(curve.position, values, marker=marker, markersize=3, **look)
    return handles


def _draw_documents(axes: Axes, curves: Sequence[Curve], looks: Sequence[Look]) -> None:
    _draw_curves(axes, curves, looks, "texts")
    most = int(axes.dataLim.ymax)
    axes.set(ylabel="docs", ylim=(0, 1.2 * most), yticks=(0, most))


def _draw_band(axes: Axes, curves: Sequence[Curve], spread_name: str, looks: Sequence[Look]) -> bool:
    """Shade mean ± spread around each curve; whether there was any to shade."""
    drawn = False
    for look, curve in zip(looks, curves):
        spread = getattr(curve, spread_name)
        axes.fill_between(
            curve.position,
            curve.mean - spread,
            curve.mean + spread,
            color=look["color"],
            alpha=0.25,
            linewidth=0,
        )
        drawn = drawn or bool((spread > 0).any())
    return drawn


def _label_axes(panels: Sequence[Axes], trials: Sequence[NllTrial], scale: Scale) -> None:
    longest = max(trial.length for trial in trials)
    streams = _of_streams(trials)
    lowest = panels[-1]
    panels[0].set_ylabel("NLL (nats per token)")
    lowest.set(xlabel="position in the stream (tokens)" if streams else "position (tokens)", xscale=scale)
    if scale == "linear":
        lowest.set_xlim(0, longest)
        set_stream_ticks(lowest.xaxis) if streams else set_token_ticks(lowest.xaxis, longest)
    elif streams:
        first = panels[0].dataLim.xmin
        lowest.set_xlim(first / 1.2, longest)
        set_decade_ticks(lowest.xaxis, math.log10(longest / first))
