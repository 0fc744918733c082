"""The flags that only a diagnosis has: which layers, queries and positions, and what counts as first and near."""

from argparse import Namespace
from dataclasses import dataclass
from typing import TYPE_CHECKING

from utils.arguments import HarnessParser, whole_number
from utils.errors import UserError
from utils.trials.diagnosis_arrays import COMPONENTS

if TYPE_CHECKING:
    from models.diagnosis.plan import Plan

FIRST_TOKENS, WINDOW = 10, 4096
"""Unless Λ-attention, whose branches they then are, says otherwise: the paper's setting."""
MOST_PLACES = 4096
"""Bins and positions: each is kept for every head of every layer."""


@dataclass(frozen=True)
class DiagnosisPlan:
    """The measurements of each document. layers: to measure, None for all. The rest is of `models.diagnosis.plan.Plan`,
    whose distances and positions are spread over the longest text.
    """

    layers: list[int] | None
    num_queries: int
    num_bins: int
    num_positions: int
    first_tokens: int
    window: int
    num_hidden: int


def measured_plan(plan: DiagnosisPlan, longest: int) -> "Plan":
    """The plan for texts of up to `longest` tokens."""
    from models.diagnosis.plan import Plan, even_edges, spread_positions

    return Plan(
        num_queries=plan.num_queries,
        distance_edges=even_edges(longest, plan.num_bins),
        positions=spread_positions(longest, plan.num_positions),
        first_tokens=plan.first_tokens,
        window=plan.window,
        num_hidden=plan.num_hidden,
    )


def add_diagnosis_arguments(parser: HarnessParser) -> None:
    """The measurements of each document."""
    group = parser.add_argument_group("diagnosis")
    group.add_argument(
        "--layers",
        type=whole_number(0),
        nargs="+",
        metavar="N",
        help="layers to measure, counted from 0 (default: all)",
    )
    group.add_argument(
        "--num_queries",
        type=whole_number(1),
        default=128,
        metavar="N",
        help="the last N queries of a document show logits against distance (default: %(default)s)",
    )
    group.add_argument(
        "--num_bins",
        type=whole_number(1),
        default=256,
        metavar="N",
        help="bins of distance up to --max_length (default: %(default)s)",
    )
    group.add_argument(
        "--num_positions",
        type=whole_number(1),
        default=64,
        metavar="N",
        help="about so many queries, spread over --max_length, show entropy and mass (default: %(default)s)",
    )
    group.add_argument(
        "--first_tokens",
        type=whole_number(0),
        metavar="TOKENS",
        help=f"first tokens whose share of the mass is taken (default: --global_branch, or {FIRST_TOKENS})",
    )
    group.add_argument(
        "--window",
        type=whole_number(1),
        metavar="TOKENS",
        help=f"nearest tokens whose share of the mass is taken (default: --local_branch, or {WINDOW})",
    )
    group.add_argument(
        "--num_hidden",
        type=whole_number(COMPONENTS + 1),
        default=256,
        metavar="TOKENS",
        help="first tokens of a document whose hidden states are projected (default: %(default)s)",
    )
    parser.checks.append(_check_diagnosis)


def _check_diagnosis(arguments: Namespace) -> None:
    if arguments.max_length is None:
        raise UserError("--max_length is needed: the distances and positions that are measured are spread over it")
    for flag in ("num_bins", "num_positions"):
        if getattr(arguments, flag) > MOST_PLACES:
            raise UserError(
                f"--{flag} {getattr(arguments, flag)} is more than a picture can show: give at most {MOST_PLACES}"
            )
    if arguments.layers is not None:
        arguments.layers = sorted(set(arguments.layers))
    if arguments.first_tokens is None:
        arguments.first_tokens = FIRST_TOKENS if arguments.global_branch is None else arguments.global_branch
    if arguments.window is None:
        arguments.window = WINDOW if arguments.local_branch is None else arguments.local_branch
