"""Draw the score of a downstream task against the length of its prompts, a line for each method.

    python visualization/score_by_length.py logs/passkey/*/ --out score.png

LOG_DIR is of scripts/eval_downstream_tasks.py; log dirs of one label are one method, at several lengths. Prompts of
about equal length are one point: their score, with Wilson's 95 % interval where it is a proportion, else with its
standard error. What failed does not count.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.program import run_main
from utils.trials.arguments import trial_parser
from visualization.drawing import scores
from visualization.drawing.arguments import add_picture_arguments
from visualization.drawing.methods import LABELS, load_methods
from visualization.drawing.style import give_picture


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = trial_parser(__doc__, LABELS)
    add_picture_arguments(parser)
    return parser.parse_args(argv)


def main() -> None:
    arguments = parse_arguments()
    give_picture(
        arguments.out,
        lambda: scores.draw(
            load_methods(arguments.log_dirs, arguments.labels),
            pretraining_length=arguments.pretraining_length,
            title=arguments.title,
        ),
    )


if __name__ == "__main__":
    run_main(main)
