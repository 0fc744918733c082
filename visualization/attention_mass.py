"""Draw where the mass of attention falls: on the first tokens, in the window, or in the middle that Λ-attention skips.

    python visualization/attention_mass.py LOG_DIR [LOG_DIR ...] --labels vanilla Λ --out mass.png

LOG_DIR is of scripts/diagnose.py. For each trial, one panel shows the shares of a query's attention as its context
grows, the mean over heads and documents; the other one the shares at the longest context in each layer, or in each head
where --layer chooses one layer. What is first and what is the window is as the trial's flags had it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.program import run_main
from utils.trials.arguments import trial_parser
from visualization.drawing import mass
from visualization.drawing.arguments import add_head_arguments, add_picture_arguments
from visualization.drawing.diagnosis import HeadChoice, load_diagnoses
from visualization.drawing.style import give_picture


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = trial_parser(__doc__)
    add_picture_arguments(parser)
    add_head_arguments(parser)
    return parser.parse_args(argv)


def main() -> None:
    arguments = parse_arguments()
    give_picture(
        arguments.out,
        lambda: mass.draw(
            load_diagnoses(arguments.log_dirs, arguments.labels),
            choice=HeadChoice.of(arguments.layer, arguments.head),
            pretraining_length=arguments.pretraining_length,
            title=arguments.title,
        ),
    )


if __name__ == "__main__":
    run_main(main)
