"""Draw latency and memory against length, a line for each method.

    python visualization/cost_by_length.py logs/passkey/*/ --out cost.png

LOG_DIR is of scripts/eval_downstream_tasks.py, or of scripts/eval_generation.py; log dirs of one label are one method,
at several lengths. Texts of about equal length are one point: the median over them, with bars from the 10th to the
90th percentile. Peak memory is that of a run so far: it counts for a length only until the run has met a longer one.
Seconds of a generation are those of a batch of texts read together.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.program import run_main
from visualization.drawing import costs
from visualization.drawing.command import give_methods, method_parser


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = method_parser(__doc__)
    parser.add_argument("--y", choices=("linear", "log"), default="linear", help="axes of costs (default: %(default)s)")
    return parser.parse_args(argv)


def main() -> None:
    arguments = parse_arguments()
    give_methods(arguments, partial(costs.draw, scale=arguments.y), tuple(costs.COSTS))


if __name__ == "__main__":
    run_main(main)
