"""Draw the score of pass key or needle retrieval over the length of the prompt and the depth of the answer in it.

    python visualization/score_heatmap.py logs/passkey/*/ --out passkey.png

LOG_DIR is of scripts/eval_downstream_tasks.py; log dirs of one label are one method, at several lengths, and have a
panel. A cell is the mean score of the prompts of about that length whose answer is about so deep, 0% at their
beginning; it is grey where there is none. What failed does not count.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.program import run_main
from utils.trials.arguments import trial_parser
from visualization.drawing import heatmap
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
        lambda: heatmap.draw(
            load_methods(arguments.log_dirs, arguments.labels),
            pretraining_length=arguments.pretraining_length,
            title=arguments.title,
        ),
    )


if __name__ == "__main__":
    run_main(main)
