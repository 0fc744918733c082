"""Draw where the mass of attention falls: on the first tokens, in the window, or in the middle that Λ-attention skips.

    python visualization/attention_mass.py LOG_DIR [LOG_DIR ...] --labels vanilla Λ --out mass.png

LOG_DIR is of scripts/diagnose.py. For each trial, one panel shows the shares of a query's attention as its context
grows, the mean over heads and documents; the other one the shares at the longest context in each layer, or in each head
where --layer chooses one layer. What is first and what is the window is as the trial's flags had it.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.program import run_main
from visualization.drawing import mass
from visualization.drawing.command import give_heads, head_parser


def main() -> None:
    give_heads(head_parser(__doc__).parse_args(), mass.draw)


if __name__ == "__main__":
    run_main(main)
