"""What the commands that draw share: their flags, and reading, drawing and writing in turn."""

import argparse
from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from utils.arguments import HarnessParser
from utils.trials.arguments import trial_parser
from utils.trials.experiments import DOWNSTREAM
from visualization.drawing.arguments import LABELS, METHOD_LABELS, add_head_arguments, add_picture_arguments
from visualization.drawing.diagnosis import HeadChoice, load_diagnoses
from visualization.drawing.methods import load_methods
from visualization.drawing.style import give_picture


def method_parser(description: str) -> HarnessParser:
    """The flags of a picture of trials of examples."""
    parser = trial_parser(description, METHOD_LABELS)
    add_picture_arguments(parser)
    return parser


def give_methods(
    arguments: argparse.Namespace, draw: Callable[..., Figure], scripts: Sequence[str] = (DOWNSTREAM,)
) -> None:
    """Draw trials of these scripts, one method for each label. draw: as `scores.draw`."""
    give_picture(
        arguments.out,
        lambda: draw(
            load_methods(arguments.log_dirs, arguments.labels, scripts),
            pretraining_length=arguments.pretraining_length,
            title=arguments.title,
        ),
    )


def head_parser(description: str) -> HarnessParser:
    """The flags of a picture of diagnoses that shows heads."""
    parser = trial_parser(description, LABELS)
    add_picture_arguments(parser)
    add_head_arguments(parser)
    return parser


def give_heads(arguments: argparse.Namespace, draw: Callable[..., Figure]) -> None:
    """Draw the chosen heads of diagnoses. draw: as `mass.draw`."""
    give_picture(
        arguments.out,
        lambda: draw(
            load_diagnoses(arguments.log_dirs, arguments.labels),
            choice=HeadChoice.of(arguments.layer, arguments.head),
            pretraining_length=arguments.pretraining_length,
            title=arguments.title,
        ),
    )
