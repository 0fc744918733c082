"""Arguments shared by the scripts that read finished trials."""

import argparse

from utils.arguments import HarnessParser, whole_number

LABELS = "a name for each LOG_DIR, in the same order (default: the folders' names)"


def trial_parser(description: str, labels: str = LABELS) -> HarnessParser:
    """A parser with LOG_DIR..., --labels and --pretraining_length; its help keeps the description's lines.

    labels: the help of --labels.
    """
    parser = HarnessParser(description)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("log_dirs", nargs="+", metavar="LOG_DIR", help="log dir of a finished trial")
    parser.add_argument("--labels", nargs="+", metavar="LABEL", help=labels)
    parser.add_argument(
        "--pretraining_length",
        type=whole_number(1),
        metavar="TOKENS",
        help="where to mark the pre-training length (default: as each config.json has it); "
        "there is no mark beyond the last position",
    )
    return parser


def add_picture_arguments(parser: HarnessParser) -> None:
    """--out and --title."""
    parser.add_argument(
        "--out",
        nargs="+",
        required=True,
        metavar="FILE",
        help="pictures to write: names that end in .png, .pdf or .svg",
    )
    parser.add_argument("--title", help="printed above the picture (default: none)")


def add_head_arguments(parser: HarnessParser) -> None:
    """--layer and --head, for `visualization.diagnosis.HeadChoice`."""
    for name, what in (("layer", "layers, as the model counts them"), ("head", "query heads of each layer")):
        parser.add_argument(
            f"--{name}",
            type=whole_number(0),
            nargs="+",
            metavar="N",
            help=f"draw these {what}, from 0 (default: all that were measured)",
        )
