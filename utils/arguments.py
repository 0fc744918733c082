"""Command-line flags in groups that each script composes, and what a command makes of them: plans.

A group is a function `add_..._arguments(parser)`; a plan a frozen dataclass beside it, whose fields are flags.

Nothing heavy is imported here, so `--help` and a wrong flag answer at once.
"""

import argparse
import math
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from utils.errors import SharedError, UserError, did_you_mean

RANK_TIMEOUT, SHORTEST_RANK_TIMEOUT = 300, 5
"""Seconds after which a rank that is not heard of counts as lost."""
LARGEST_NUMBER = 10**18  # torch and the tokenizers count in 64 bits
Check = Callable[[Namespace], None]
Flags = Mapping[str, Any]
"""Values by the names of their flags: of a command line, or as config.json recorded them."""
Plan = TypeVar("Plan")


class HarnessParser(argparse.ArgumentParser):
    """A parser whose groups bring their own checks, and whose errors are one sentence (SharedError).

    checks: run in their order on what was parsed. look_ups: run by --check alone, of names whose finding imports much.
    given: names of the arguments that the command line itself sets.
    """

    def __init__(self, description: str) -> None:
        super().__init__(description=description, allow_abbrev=False)
        self.checks: list[Check] = []
        self.look_ups: list[Check] = []
        self.given: set[str] = set()

    def parse_args(self, args: Sequence[str] | None = None, namespace: Namespace | None = None) -> Namespace:
        """Parse, then run every group's check. Raises SharedError: every rank reads the same command line.

        With --check that is all: the process ends.
        """
        words = {word.partition("=")[0] for word in (sys.argv[1:] if args is None else args)}
        self.given = {action.dest for action in self._actions if words & set(action.option_strings)}
        arguments = super().parse_args(args, namespace)
        for name, value in vars(arguments).items():
            if value == "":
                self.error(f"--{name} is empty: give a value or leave it out")
        only_check = vars(arguments).pop("check", False)
        for check in self.checks + (self.look_ups if only_check else []):
            try:
                check(arguments)
            except UserError as error:
                self.error(str(error))
        if only_check:
            self.exit(message="nothing is wrong with this command\n")
        return arguments

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += did_you_mean(str(value), map(str, action.choices))
            raise

    def error(self, message: str) -> None:
        raise SharedError(f"{message} (see {self.prog} --help)")


def plan_of(kind: type[Plan], flags: Flags) -> Plan:
    """A plan of the dataclass `kind`, each field of which is the flag of its name."""
    return kind(**{field.name: flags[field.name] for field in fields(kind) if field.name in flags})


def whole_number(minimum: int) -> Callable[[str], int]:
    """An argparse type: an integer of at least `minimum`, small enough for all arithmetic on it."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ArgumentTypeError(f"must be a whole number, not {text!r}") from None
        if value < minimum:
            raise ArgumentTypeError(f"must be at least {minimum}, not {value}")
        if value > LARGEST_NUMBER:
            raise ArgumentTypeError(f"must be at most {LARGEST_NUMBER}, not {value}")
        return value

    return parse


def finite_number(text: str) -> float:
    """An argparse type: a number, neither infinite nor NaN."""
    try:
        value = float(text)
    except ValueError:
        raise ArgumentTypeError(f"must be a number, not {text!r}") from None
    if not math.isfinite(value):
        raise ArgumentTypeError(f"must be a finite number, not {text}")
    return value


@dataclass(frozen=True)
class RunPlan:
    """Where a trial is kept, and what its config.json records.

    overwrite: whether a trial that is there already counts as absent. seed: None counts as 0. recorded: all flags of
    the command, from which nothing is read: a trial goes on where they are as they were. rank_timeout: seconds.
    sequence_parallel: ranks that read one sequence together. repair: whether what is damaged there is dropped.
    """

    log_dir: str
    overwrite: bool
    seed: int | None
    recorded: Flags
    rank_timeout: int = RANK_TIMEOUT
    sequence_parallel: int = 1
    repair: bool = False


def run_plan(flags: Flags) -> RunPlan:
    """The plan of a command with these flags."""
    together = flags.get("sequence_parallel", 1)
    repair = flags.get("repair", False)
    return RunPlan(flags["log_dir"], flags["overwrite"], flags["seed"], flags, flags["rank_timeout"], together, repair)


def add_run_arguments(parser: HarnessParser, log_dir: str) -> None:
    """Where results go and what the work runs on; `log_dir` is the script's default folder."""
    group = parser.add_argument_group("run")
    group.add_argument(
        "--log_dir",
        "--output_dir",
        default=log_dir,
        metavar="DIR",
        help="folder of the results (default: %(default)s)",
    )
    group.add_argument("--overwrite", action="store_true", help="start afresh where --log_dir holds a trial already")
    group.add_argument(
        "--repair", action="store_true", help="drop what is damaged in --log_dir, by name, and compute it again"
    )
    group.add_argument(
        "--check", action="store_true", help="look for mistakes in the flags and the names they give, and run nothing"
    )
    group.add_argument(
        "--deepspeed_config", metavar="FILE", help="DeepSpeed JSON, see configs/ (default: no DeepSpeed)"
    )
    group.add_argument(
        "--rank_timeout",
        type=whole_number(SHORTEST_RANK_TIMEOUT),
        default=RANK_TIMEOUT,
        metavar="SECONDS",
        help="of several ranks: how long to wait for one that does not come, or is not heard of any more; one that "
        "computes is waited for as long as it takes (default: %(default)s)",
    )
    group.add_argument("--local_rank", type=int, default=0, help=argparse.SUPPRESS)
    parser.checks.append(_check_run)


def _check_run(arguments: Namespace) -> None:
    if arguments.deepspeed_config and getattr(arguments, "device_map", None):
        raise UserError("--device_map contradicts --deepspeed_config: each places the model, give one of them")
