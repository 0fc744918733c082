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

from utils.arguments import whole_number
from utils.errors import UserError
from utils.program import run_main
from utils.trials.arguments import trial_parser
from utils.trials.nll_trials import NllTrial, load_trials
from visualization.drawing import nll
from visualization.drawing.arguments import LABELS, add_picture_arguments
from visualization.drawing.curves import MAX_POINTS
from visualization.drawing.looks import named_by_method
from visualization.drawing.stream_curves import FEWEST_TOKENS
from visualization.drawing.style import give_picture


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = trial_parser(__doc__, LABELS)
    add_picture_arguments(parser)
    parser.add_argument(
        "--smoothing",
        type=whole_number(1),
        metavar="TOKENS",
        help="width of the centred moving average over positions, each weighted by its number of documents or "
        "streams; it narrows near the first position so as to stay centred; 1 is none (default: "
        f"{nll.SMOOTHING}; on the linear axis of streams 1/{nll.STREAM_PART} of the longest, if that is more). A curve "
        f"of documents has at most {MAX_POINTS} points, each the mean over a bin of positions or this window, "
        "whichever is wider; one of streams a point for each bucket in stats.npz, likewise, but the first for at least "
        f"{FEWEST_TOKENS} tokens",
    )
    parser.add_argument(
        "--x", choices=("linear", "log"), help="axis of positions (default: linear for documents, log for streams)"
    )
    parser.add_argument(
        "--band",
        choices=(*nll.BANDS, "none"),
        default="sem",
        help="sem: standard error of the curve; of documents, and of a trial of one stream, it takes tokens to be "
        "independent, of several streams it is their standard deviation over the root of their number; std: standard "
        "deviation over documents of a token's NLL, or over streams of their mean in the window; neither is drawn "
        "where only one document is left, nor std for one stream (default: %(default)s)",
    )
    parser.add_argument("--ylim", nargs=2, type=float, metavar=("LOW", "HIGH"), help="range of NLL shown")
    return parser.parse_args(argv)


def _load(log_dirs: Sequence[str], labels: Sequence[str] | None) -> list[NllTrial]:
    """The trials, called by their methods unless labels are given."""
    trials = load_trials(log_dirs, labels)
    return named_by_method(trials) if labels is None else trials


def main() -> None:
    arguments = parse_arguments()
    if arguments.ylim and not -math.inf < arguments.ylim[0] < arguments.ylim[1] < math.inf:
        raise UserError("--ylim: give two finite numbers, the lower limit and the upper one above it")
    give_picture(
        arguments.out,
        lambda: nll.draw(
            _load(arguments.log_dirs, arguments.labels),
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
