"""The flag that says how many ranks read one sequence together. Nothing heavy is imported here."""

from argparse import Namespace

from utils.arguments import HarnessParser, whole_number
from utils.errors import UserError

NEED_THE_MIDDLE = ("triangle_offset", "top_k_attention")
"""Flags of methods that attend to tokens in between, which no rank of a group holds."""


def add_sequence_arguments(parser: HarnessParser, one_row: bool = False) -> None:
    """How ranks share out the work; after the flags of Λ-attention, which have to allow it.

    one_row: whether the rows of a batch differ in length, so that there may be only one.
    """
    parser.add_argument_group("ranks").add_argument(
        "--sequence_parallel",
        type=whole_number(1),
        default=1,
        metavar="N",
        help="have N ranks read one sequence together, a stretch each; the numbers do not depend on it beyond rounding "
        "(default: %(default)s, each rank reads texts of its own)",
    )
    parser.checks.append(_check)
    if one_row:
        parser.checks.append(_check_one_row)


def _check_one_row(arguments: Namespace) -> None:
    if arguments.sequence_parallel > 1 and arguments.batch_size > 1:
        raise UserError(
            f"--batch_size must be 1 with --sequence_parallel {arguments.sequence_parallel}: ranks that read one "
            "prompt together take no padding"
        )


def _check(arguments: Namespace) -> None:
    ranks = arguments.sequence_parallel
    if ranks == 1:
        return
    if arguments.remap_positions is not None:
        raise UserError(_contradiction(ranks, f"remap_positions {arguments.remap_positions}"))
    if not arguments.use_lambda_attention:
        raise UserError(
            f"--sequence_parallel {ranks} needs --use_lambda_attention: a vanilla model attends to all tokens, and no "
            "rank would hold them"
        )
    for name in NEED_THE_MIDDLE:
        if getattr(arguments, name):
            raise UserError(_contradiction(ranks, name))


def _contradiction(ranks: int, flag: str) -> str:
    return (
        f"--sequence_parallel {ranks} contradicts --{flag}: it attends to all tokens in between, and no rank would "
        "hold them; leave one of them out"
    )
