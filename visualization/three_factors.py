"""Draw in one figure why models fail at length: logits, entropy and the first tokens, a panel for each factor.

    python visualization/three_factors.py LOG_DIR [LOG_DIR ...] --labels vanilla Λ --out factors.png

LOG_DIR is of scripts/diagnose.py. 1: the largest logit at each relative distance, shaded where the first tokens lie;
2: the entropy of attention as the context grows; 3: hidden states of the first trial that enter a layer's attention,
by position. Each factor by itself, with more of it: relative_attention_explosion.py, attention_entropy.py,
position_pca.py.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from matplotlib.figure import Figure

from utils.arguments import whole_number
from utils.program import run_main
from visualization.drawing.command import give_heads, head_parser
from visualization.drawing.diagnosis import ALL_HEADS, Diagnosis, HeadChoice
from visualization.drawing.entropy import draw_entropy, uniform_entry
from visualization.drawing.head_curves import band_words, finish_head_figure
from visualization.drawing.logits import draw_logits, growing_head, shade_first_tokens
from visualization.drawing.projection import add_position_bar, draw_projection, first_label
from visualization.drawing.style import TEXT_WIDTH, set_panel_title


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = head_parser(__doc__)
    parser.add_argument(
        "--growing_head",
        action="store_true",
        help="panel 1 shows the one head of the first trial whose logits grow most past the pre-training length",
    )
    parser.add_argument(
        "--hidden_layer",
        type=whole_number(0),
        metavar="N",
        help="the layer of panel 3 (default: the middle one of those that were measured)",
    )
    return parser.parse_args(argv)


def draw(
    trials: Sequence[Diagnosis],
    *,
    choice: HeadChoice = ALL_HEADS,
    growing: bool = False,
    hidden_layer: int | None = None,
    pretraining_length: int | None = None,
    title: str | None = None,
) -> Figure:
    """The figure of these trials. Draw and save within paper_style().

    growing: panel 1 shows one head, see `growing_head`; hidden_layer: of panel 3, None for the middle one.
    """
    figure = Figure(figsize=(TEXT_WIDTH, 2.0), layout="constrained")
    logits, entropy, hidden = figure.subplots(1, 3)
    shown = growing_head(trials[0], choice, pretraining_length) if growing else choice
    lines = draw_logits(logits, trials, shown)
    set_panel_title(logits, f"1. Largest logit, {shown}")
    first = shade_first_tokens([logits], trials)
    draw_entropy(entropy, trials, choice)
    set_panel_title(entropy, f"2. Entropy, {choice}")
    layer = trials[0].layers[len(trials[0].layers) // 2] if hidden_layer is None else hidden_layer
    last = int(trials[0].arrays["hidden_position"].max())
    triangles = draw_projection(hidden, trials[0], layer, last)
    set_panel_title(hidden, f"3. Hidden states, layer {layer}")
    hidden_label = f"{first_label(trials[:1])} ({trials[0].label})"
    add_position_bar(figure, [hidden], last)
    finish_head_figure(
        figure,
        trials,
        lines,
        panels=[logits, entropy],
        bands=band_words(trials, [shown, choice]),
        more=[uniform_entry(), (first, "distances of the first tokens"), (triangles, hidden_label)],
        pretraining_length=pretraining_length,
        title=title,
    )
    return figure


def main() -> None:
    arguments = parse_arguments()
    give_heads(arguments, partial(draw, growing=arguments.growing_head, hidden_layer=arguments.hidden_layer))


if __name__ == "__main__":
    run_main(main)
