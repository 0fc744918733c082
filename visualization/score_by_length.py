"""Draw the score of a downstream task against the length of its prompts, a line for each method.

    python visualization/score_by_length.py logs/passkey/*/ --out score.png

LOG_DIR is of scripts/eval_downstream_tasks.py; log dirs of one label are one method, at several lengths. Prompts made
for one --max_length are one point, or prompts of about equal length: their score, with Wilson's 95 % interval where it
is a proportion, else with its standard error. What failed does not count.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.program import run_main
from visualization.drawing import scores
from visualization.drawing.command import give_methods, method_parser


def main() -> None:
    give_methods(method_parser(__doc__).parse_args(), scores.draw)


if __name__ == "__main__":
    run_main(main)
