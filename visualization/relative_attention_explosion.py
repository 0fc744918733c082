"""Draw attention logits against relative distance: factor 1, distances that pre-training never showed.

    python visualization/relative_attention_explosion.py LOG_DIR [LOG_DIR ...] --labels vanilla Λ --out logits.png

LOG_DIR is of scripts/diagnose.py. Upper panel: the largest logit at each distance, over the last queries of a document;
the line is the median over heads, the band holds 8 heads of 10. Lower panel: the one head of the first trial that grows
most past the pre-training length, averaged over documents. At the largest distances, shaded, lie the first tokens, on
which much attention falls at any length: they do not count for growth. Where no key is attended there is no line:
Λ-attention attends to the window and, far away, to the first tokens only, which are dots. A chosen head has one panel.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.program import run_main
from visualization.drawing import logits
from visualization.drawing.command import give_heads, head_parser


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = head_parser(__doc__)
    parser.add_argument(
        "--statistic",
        choices=tuple(logits.STATISTICS),
        default="max",
        help="of the logits at a distance: the largest, the mean, or the largest at any distance up to there "
        "(default: %(default)s)",
    )
    return parser.parse_args(argv)


def main() -> None:
    arguments = parse_arguments()
    give_heads(arguments, partial(logits.draw, statistic=arguments.statistic))


if __name__ == "__main__":
    run_main(main)
