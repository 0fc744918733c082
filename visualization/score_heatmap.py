"""Draw the score of pass key or needle retrieval over the length of the prompt and the depth of the answer in it.

    python visualization/score_heatmap.py logs/passkey/*/ --out passkey.png

LOG_DIR is of scripts/eval_downstream_tasks.py; log dirs of one label are one method, at several lengths, and have a
panel. A cell is the mean score of the prompts of about that length whose answer is about so deep, 0% at their
beginning; it is grey where there is none. Where cells have unlike numbers of examples, each says its own. What failed
does not count.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.program import run_main
from visualization.drawing import heatmap
from visualization.drawing.command import give_methods, method_parser


def main() -> None:
    give_methods(method_parser(__doc__).parse_args(), heatmap.draw)


if __name__ == "__main__":
    run_main(main)
