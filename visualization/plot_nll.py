"""Draw NLL against position, for one trial or several side by side.

    python visualization/plot_nll.py LOG_DIR [LOG_DIR ...] --labels vanilla lambda --out nll.png nll.pdf

Upper panel: the NLL of tokens, averaged over documents and smoothed over positions, with a band and a mark at
the pre-training length. Lower panel: how many documents are averaged, for fewer reach the long positions.
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
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from utils.arguments import whole_number
from utils.errors import UserError, run_main
from visualization.arguments import trial_parser
from visualization.curves import MAX_POINTS, Curve, Scale, position_curve
from visualization.style import (
    COLUMN_WIDTH,
    add_legend_below,
    check_outputs,
    line_look,
    paper_style,
    save_figure,
    set_token_ticks,
)
from visualization.trials import FinishedTrial, lengths_to_mark, load_trials

BANDS = {
    "sem": ("standard_error", "± 1 standard error"),
    "std": ("deviation", "± 1 s.d. over documents"),
}


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = trial_parser(__doc__)
    parser.add_argument(
        "--out",
        nargs="+",
        required=True,
        metavar="FILE",
        help="pictures to write: names that end in .png, .pdf or .svg",
    )
    parser.add_argument(
        "--smoothing",
        type=whole_number(1),
        default=512,
        metavar="TOKENS",
        help="width of the centred moving average over positions, each weighted by its "
        "number of documents; it narrows near the first position so as to stay centred; "
        f"1 is none (default: %(default)s). A curve has at most {MAX_POINTS} points, "
        "each the mean over a bin of positions or this window, whichever is wider",
    )
    parser.add_argument("--x", choices=("linear", "log"), default="linear", help="axis of positions (default: linear)")
    parser.add_argument(
        "--band",
        choices=(*BANDS, "none"),
        default="sem",
        help="sem: standard error of the curve, taking tokens to be independent; std: "
        "standard deviation of a token's NLL over documents; neither is drawn where "
        "only one document is left (default: %(default)s)",
    )
    parser.add_argument("--ylim", nargs=2, type=float, metavar=("LOW", "HIGH"), help="range of NLL shown")
    parser.add_argument("--title", help="printed above the picture (default: none)")
    return parser.parse_args(argv)


def draw(
    trials: Sequence[FinishedTrial],
    *,
    smoothing: int = 512,
    scale: Scale = "linear",
    band: str = "sem",
    pretraining_length: int | None = None,
    ylim: tuple[float, float] | None = None,
    title: str | None = None,
) -> Figure:
    """The figure of these trials; `band` is a key of BANDS or "none". Draw and save within paper_style()."""
    figure = Figure(figsize=(COLUMN_WIDTH, 2.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (5, 1)})
    curves = [position_curve(trial.arrays, smoothing=smoothing, scale=scale) for trial in trials]
    handles = _draw_curves(upper, lower, curves)
    labels = [trial.label for trial in trials]
    if band != "none" and _draw_band(upper, curves, BANDS[band][0]):
        handles.append(Patch(color="0.5", alpha=0.35, linewidth=0))
        labels.append(BANDS[band][1])
    longest = max(len(trial.arrays["count"]) for trial in trials)
    for length in lengths_to_mark(trials, pretraining_length):
        handles.append(_mark(upper, lower, length))
        labels.append(f"pre-training length {length:,}")
    _label_axes(upper, lower, scale, longest)
    if ylim is None:
        upper.set_ylim(bottom=max(upper.get_ylim()[0], 0))  # NLL is never negative, a band's edge may be
    else:
        upper.set_ylim(ylim)
    if title:
        figure.suptitle(title, parse_math=False)
    add_legend_below(figure, handles, labels)
    return figure


def _draw_curves(upper: Axes, lower: Axes, curves: Sequence[Curve]) -> list[Artist]:
    handles: list[Artist] = []
    for index, curve in enumerate(curves):
        look = line_look(index)
        marker = "o" if len(curve.position) == 1 else None  # a line through one point is not to be seen
        handles += upper.plot(curve.position, curve.mean, marker=marker, markersize=3, **look)
        lower.plot(curve.position, curve.documents, marker=marker, markersize=3, **look)
    return handles


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


def _mark(upper: Axes, lower: Axes, length: int) -> Line2D:
    look = {"color": "0.35", "linestyle": (0, (1, 1)), "linewidth": 0.9, "zorder": 1}
    lower.axvline(length, **look)
    return upper.axvline(length, **look)


def _label_axes(upper: Axes, lower: Axes, scale: Scale, longest: int) -> None:
    upper.set_ylabel("NLL (nats per token)")
    lower.set_ylabel("docs")
    lower.set_xlabel("position (tokens)")
    most = int(lower.dataLim.ymax)
    lower.set(ylim=(0, 1.2 * most), yticks=(0, most), xscale=scale)
    if scale == "linear":
        lower.set_xlim(0, longest)
        set_token_ticks(lower.xaxis, longest)


def main() -> None:
    arguments = parse_arguments()
    outputs = check_outputs(arguments.out)
    if arguments.ylim and not -math.inf < arguments.ylim[0] < arguments.ylim[1] < math.inf:
        raise UserError("--ylim: give two finite numbers, the lower limit and the upper one above it")
    trials = load_trials(arguments.log_dirs, arguments.labels)
    with paper_style():
        figure = draw(
            trials,
            smoothing=arguments.smoothing,
            scale=arguments.x,
            band=arguments.band,
            pretraining_length=arguments.pretraining_length,
            ylim=arguments.ylim,
            title=arguments.title,
        )
        save_figure(figure, outputs)
    for path in outputs:
        print(f"wrote {path}")


if __name__ == "__main__":
    run_main(main)
