"""Draw NLL against position, for one trial or several side by side.

    python visualization/plot_nll.py LOG_DIR [LOG_DIR ...] --labels vanilla lambda --out nll.png nll.pdf

Documents, upper panel: the NLL of tokens, averaged over documents and smoothed over positions, with a band and a
mark at the pre-training length. Lower panel: how many documents are averaged, for fewer reach the long positions.

Streams (eval_infinite_ppl.py), one panel: the same, averaged over the streams of a trial, by default on a
logarithmic axis, from buckets of which 24 make a decade. Documents and streams are drawn in pictures of their own.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from utils.arguments import whole_number
from utils.errors import UserError
from utils.program import run_main
from utils.trials.arguments import trial_parser
from utils.trials.finished import lengths_to_mark
from utils.trials.nll_trials import NllTrial, StreamTrial, load_trials
from visualization.drawing.arguments import add_picture_arguments
from visualization.drawing.curves import MAX_POINTS, Curve, Scale, position_curve
from visualization.drawing.stream_curves import FEWEST_TOKENS, stream_curve
from visualization.drawing.style import (
    COLUMN_WIDTH,
    add_legend_below,
    give_picture,
    line_look,
    mark_length,
    set_decade_ticks,
    set_stream_ticks,
    set_token_ticks,
)

BANDS = {"sem": "standard_error", "std": "deviation"}
SMOOTHING = 512
STREAM_PART = 100  # the default window of a linear picture of streams is so small a part of it


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = trial_parser(__doc__)
    add_picture_arguments(parser)
    parser.add_argument(
        "--smoothing",
        type=whole_number(1),
        metavar="TOKENS",
        help="width of the centred moving average over positions, each weighted by its number of documents or "
        "streams; it narrows near the first position so as to stay centred; 1 is none (default: "
        f"{SMOOTHING}; on the linear axis of streams 1/{STREAM_PART} of the longest, if that is more). A curve of "
        f"documents has at most {MAX_POINTS} points, each the mean over a bin of positions or this window, whichever "
        "is wider; one of streams a point for each bucket in stats.npz, likewise, but the first for at least "
        f"{FEWEST_TOKENS} tokens",
    )
    parser.add_argument(
        "--x", choices=("linear", "log"), help="axis of positions (default: linear for documents, log for streams)"
    )
    parser.add_argument(
        "--band",
        choices=(*BANDS, "none"),
        default="sem",
        help="sem: standard error of the curve; of documents, and of a trial of one stream, it takes tokens to be "
        "independent, of several streams it is their standard deviation over the root of their number; std: standard "
        "deviation over documents of a token's NLL, or over streams of their mean in the window; neither is drawn "
        "where only one document is left, nor std for one stream (default: %(default)s)",
    )
    parser.add_argument("--ylim", nargs=2, type=float, metavar=("LOW", "HIGH"), help="range of NLL shown")
    return parser.parse_args(argv)


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
    handles = _draw_curves(panels[0], curves)
    labels = [trial.label for trial in trials]
    if band != "none" and _draw_band(panels[0], curves, BANDS[band]):
        handles.append(Patch(color="0.5", alpha=0.35, linewidth=0))
        labels.append(band_label(trials, band))
    if len(panels) > 1:
        _draw_documents(panels[1], curves)
    for length in lengths_to_mark(trials, pretraining_length):
        handles.append(mark_length(panels, length))
        labels.append(f"pre-training length {length:,}")
    _label_axes(panels, trials, scale)
    if ylim is None:
        panels[0].set_ylim(bottom=max(panels[0].get_ylim()[0], 0))  # NLL is never negative, a band's edge may be
    else:
        panels[0].set_ylim(ylim)
    if title:
        figure.suptitle(title, parse_math=False)
    add_legend_below(figure, handles, labels)
    return figure


def make_curves(trials: Sequence[NllTrial], smoothing: int | None, scale: Scale) -> list[Curve]:
    """The trials' curves; smoothing None is the default that --help tells."""
    if not _of_streams(trials):
        return [position_curve(trial.arrays, smoothing=smoothing or SMOOTHING, scale=scale) for trial in trials]
    if smoothing is None:
        longest = max(trial.length for trial in trials)
        smoothing = max(SMOOTHING, longest // STREAM_PART) if scale == "linear" else SMOOTHING
    return [stream_curve(trial.arrays, smoothing=smoothing, scale=scale) for trial in trials]


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


def _draw_curves(axes: Axes, curves: Sequence[Curve], quantity: str = "mean") -> list[Artist]:
    handles: list[Artist] = []
    for index, curve in enumerate(curves):
        marker = "o" if len(curve.position) == 1 else None  # a line through one point is not to be seen
        values = getattr(curve, quantity)
        handles += axes.plot(curve.position, values, marker=marker, markersize=3, **line_look(index))
    return handles


def _draw_documents(axes: Axes, curves: Sequence[Curve]) -> None:
    _draw_curves(axes, curves, "texts")
    most = int(axes.dataLim.ymax)
    axes.set(ylabel="docs", ylim=(0, 1.2 * most), yticks=(0, most))


def _draw_band(axes: Axes, curves: Sequence[Curve], spread_name: str) -> bool:
    """Shade mean ± spread around each curve; whether there was any to shade."""
    drawn = False
    for index, curve in enumerate(curves):
        spread = getattr(curve, spread_name)
        axes.fill_between(
            curve.position,
            curve.mean - spread,
            curve.mean + spread,
            color=line_look(index)["color"],
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


def main() -> None:
    arguments = parse_arguments()
    if arguments.ylim and not -math.inf < arguments.ylim[0] < arguments.ylim[1] < math.inf:
        raise UserError("--ylim: give two finite numbers, the lower limit and the upper one above it")
    give_picture(
        arguments.out,
        lambda: draw(
            load_trials(arguments.log_dirs, arguments.labels),
            smoothing=arguments.smoothing,
            scale=arguments.x,
            band=arguments.band,
            pretraining_length=arguments.pretraining_length,
            ylim=arguments.ylim,
            title=arguments.title,
        ),
    )


if __name__ == "__main__":
    run_main(main)
