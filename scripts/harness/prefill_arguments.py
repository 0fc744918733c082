"""The flag that says how many tokens of a text are read at once. Nothing heavy is imported here."""

from dataclasses import dataclass

from utils.arguments import HarnessParser, whole_number

ONE_FORWARD = "none"
"""Value of the flag: a text is read in one forward, however long."""


@dataclass(frozen=True)
class PrefillPlan:
    """prefill_chunk: tokens that are read at once; ONE_FORWARD for all of a text, None for as memory allows."""

    prefill_chunk: int | str | None = None


def chunk(text: str) -> int | str:
    """An argparse type: a number of tokens, at least 1, or 'none'."""
    return ONE_FORWARD if text.lower() == ONE_FORWARD else whole_number(1)(text)


def add_prefill_arguments(parser: HarnessParser) -> None:
    """How long texts are read."""
    parser.add_argument_group("reading").add_argument(
        "--prefill_chunk",
        type=chunk,
        metavar="TOKENS",
        help="read longer texts in chunks of so many tokens through the cache, or 'none' for one forward each; the "
        "numbers do not depend on it beyond rounding (default: by free memory)",
    )
