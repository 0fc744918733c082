"""Draw hidden states by position: factor 3, the first tokens live in a region of their own.

    python visualization/position_pca.py LOG_DIR [LOG_DIR ...] --labels vanilla Λ --layer 5 15 25 --out position.png

LOG_DIR is of scripts/diagnose.py. What enters a layer's attention is projected on its two principal components, over
the beginnings of all documents: a panel for each trial and layer, and by default four layers spread over the model.
Triangles are the first tokens, as many as the trial counts as such; dots are later ones, lighter the later. Beside the
number of a component is its share of the variance; the coordinates have the unit of the hidden states.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.arguments import whole_number
from utils.program import run_main
from utils.trials.arguments import trial_parser
from visualization.drawing import projection
from visualization.drawing.arguments import LABELS, add_picture_arguments
from visualization.drawing.diagnosis import load_diagnoses
from visualization.drawing.style import give_picture


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = trial_parser(__doc__, LABELS)
    add_picture_arguments(parser)
    parser.add_argument(
        "--layer",
        type=whole_number(0),
        nargs="+",
        metavar="N",
        help=f"layers to draw, counted from 0 (default: {projection.LAYERS} of those that were measured, the first and "
        "last among them)",
    )
    return parser.parse_args(argv)


def main() -> None:
    arguments = parse_arguments()
    give_picture(
        arguments.out,
        lambda: projection.draw(
            load_diagnoses(arguments.log_dirs, arguments.labels), layers=arguments.layer, title=arguments.title
        ),
    )


if __name__ == "__main__":
    run_main(main)
