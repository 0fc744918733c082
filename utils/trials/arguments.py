"""Flags of the commands that read finished trials."""

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
        "there is no mark beyond the last position, nor outside of the lengths drawn",
    )
    return parser
