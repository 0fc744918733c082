"""Arguments shared by the scripts that read finished trials."""

from utils.arguments import HarnessParser, whole_number

LABELS = (
    "a name for each LOG_DIR, in the same order (default: the names of their methods, with model and text where these "
    "are several, and with the folder's name where two are alike; the folders' names where all are)"
)
METHOD_LABELS = (
    "a name for each LOG_DIR, in the same order; log dirs of one name are drawn as one, such as a method's trials at "
    "several lengths (default: the names of their methods, with model and text where these are several)"
)


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
    """--layer and --head, for `visualization.drawing.diagnosis.HeadChoice`."""
    for name, what in (("layer", "layers, as the model counts them"), ("head", "query heads of each layer")):
        parser.add_argument(
            f"--{name}",
            type=whole_number(0),
            nargs="+",
            metavar="N",
            help=f"draw these {what}, from 0 (default: all that were measured)",
        )
