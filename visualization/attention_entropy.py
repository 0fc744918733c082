"""Draw the entropy of attention against length: factor 2, entropy that grows with the number of tokens.

    python visualization/attention_entropy.py LOG_DIR [LOG_DIR ...] --labels vanilla Λ --out entropy.png

LOG_DIR is of scripts/diagnose.py. A query at position i has i + 1 tokens to attend to: the line is the median over
heads of its attention's entropy, averaged over documents, and the band holds 8 heads of 10. Attention that is uniform
over all tokens has the largest entropy that there is, log n.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.program import run_main
from visualization.drawing import entropy
from visualization.drawing.command import give_heads, head_parser


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = head_parser(__doc__)
    parser.add_argument(
        "--unit",
        choices=tuple(entropy.LABELS),
        default="nats",
        help="nats, or a share of the entropy that attention would have if it were uniform over the tokens that a "
        "query attends to, or over all n up to it (default: %(default)s)",
    )
    parser.add_argument(
        "--x", choices=("linear", "log"), default="linear", help="axis of lengths (default: %(default)s)"
    )
    return parser.parse_args(argv)


def main() -> None:
    arguments = parse_arguments()
    give_heads(arguments, partial(entropy.draw, unit=arguments.unit, scale=arguments.x))


if __name__ == "__main__":
    run_main(main)
