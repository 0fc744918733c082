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
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.program import run_main
from utils.trials.arguments import trial_parser
from visualization.drawing import costs
from visualization.drawing.arguments import add_picture_arguments
from visualization.drawing.methods import LABELS, load_methods
from visualization.drawing.style import give_picture


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = trial_parser(__doc__, LABELS)
    add_picture_arguments(parser)
    parser.add_argument("--y", choices=("linear", "log"), default="linear", help="axes of costs (default: %(default)s)")
    return parser.parse_args(argv)


def main() -> None:
    arguments = parse_arguments()
    give_picture(
        arguments.out,
        lambda: costs.draw(
            load_methods(arguments.log_dirs, arguments.labels, tuple(costs.COSTS)),
            scale=arguments.y,
            pretraining_length=arguments.pretraining_length,
            title=arguments.title,
        ),
    )


if __name__ == "__main__":
    run_main(main)
