"""The options that all benchmarks share, and options whose default depends on the device."""

import argparse
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.harness.model_arguments import distance
from utils.arguments import HarnessParser, finite_number, whole_number
from utils.errors import UserError
from utils.trials.methods import NO_CAP

DEVICES = ("cpu", "cuda")
DTYPES = ("float32", "bfloat16", "float16")
BOTH_DTYPES = {device: ["float32", "bfloat16"] for device in DEVICES}
OUT = Path("logs/benchmarks")
ByDevice = Mapping[str, Any]
"""A value for each of DEVICES."""


def benchmark_parser(description: str) -> HarnessParser:
    """A parser whose help keeps the description's lines, with --device and --out. A device not here is refused."""
    parser = HarnessParser(description)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_device_argument(parser)
    add_out_argument(parser)
    return parser


def add_device_argument(parser: HarnessParser) -> None:
    """--device. One that is not here is refused."""
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="what to measure (default: %(default)s)")
    parser.checks.append(_check_device)


def add_out_argument(parser: argparse.ArgumentParser) -> None:
    """--out, the folder of the results: a trial run leaves those of the repository as they are."""
    parser.add_argument(
        "--out", type=Path, default=OUT, metavar="DIR", help="folder for the results (default: %(default)s)"
    )


def add_benchmark_arguments(
    parser: HarnessParser, lengths: ByDevice, dtypes: ByDevice = BOTH_DTYPES, repeats: int = 5
) -> None:
    """--dtypes, --lengths and --repeats, with the defaults that a benchmark has for each device.

    Parsed, `dtypes` are names of torch's, and `lengths` are in rising order.
    """
    add_by_device(parser, "--dtypes", dtypes, nargs="+", choices=DTYPES, help="precisions to measure")
    add_by_device(
        parser, "--lengths", lengths, nargs="+", type=whole_number(2), metavar="TOKENS", help="lengths to measure"
    )
    parser.add_argument(
        "--repeats",
        type=whole_number(1),
        default=repeats,
        metavar="N",
        help="runs of a case at most; the median counts (default: %(default)s)",
    )
    parser.checks.append(_in_order)


def add_by_device(parser: HarnessParser, flag: str, defaults: ByDevice, *, help: str, **options: Any) -> None:
    """An option that has another default on each device. options: as argparse takes them."""
    told = ", ".join(f"{_as_words(defaults[device])} on {device}" for device in DEVICES if device in defaults)
    action = parser.add_argument(flag, help=f"{help} (default: {told})", **options)

    def fill_in(arguments: Namespace) -> None:
        if getattr(arguments, action.dest) is None:
            setattr(arguments, action.dest, defaults[arguments.device])

    parser.checks.append(fill_in)


def add_budget_argument(parser: HarnessParser, defaults: ByDevice) -> None:
    """--budget, in seconds."""
    add_by_device(
        parser,
        "--budget",
        defaults,
        type=positive_seconds,
        metavar="SECONDS",
        help="a case is repeated no further once its runs have taken this long",
    )


def add_branch_arguments(parser: HarnessParser, local_branch: ByDevice, global_branch: int) -> None:
    """--local_branch, --global_branch and --limit_distance of Λ-attention; the limit is the local branch by default."""
    tokens = {"metavar": "TOKENS"}
    add_by_device(
        parser, "--local_branch", local_branch, type=whole_number(1), help="nearest tokens of Λ-attention", **tokens
    )
    parser.add_argument(
        "--global_branch",
        type=whole_number(0),
        default=global_branch,
        help="first tokens of Λ-attention (default: %(default)s)",
        **tokens,
    )
    parser.add_argument(
        "--limit_distance", type=distance, help="farthest distance felt (default: the local branch)", **tokens
    )
    parser.checks.append(_fill_limit)


def _check_device(arguments: Namespace) -> None:
    if arguments.device != "cuda":
        return
    import torch  # takes seconds: not for a wrong flag

    if not torch.cuda.is_available():
        raise UserError("--device cuda: there is no CUDA device here, give cpu or leave it out")


def _in_order(arguments: Namespace) -> None:
    arguments.lengths = sorted(set(arguments.lengths))
    arguments.dtypes = list(dict.fromkeys(arguments.dtypes))


def _fill_limit(arguments: Namespace) -> None:
    if arguments.limit_distance is None:
        arguments.limit_distance = arguments.local_branch
    elif arguments.limit_distance == NO_CAP:
        arguments.limit_distance = None


def positive_seconds(text: str) -> float:
    value = finite_number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be more than 0 seconds, not {text}")
    return value


def _as_words(default: Any) -> str:
    return " ".join(map(str, default)) if isinstance(default, (list, tuple)) else str(default)
