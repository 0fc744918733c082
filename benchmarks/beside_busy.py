"""How much slower is attention beside a process that keeps one core busy? Such a process is started here.

python benchmarks/beside_busy.py [--shapes smollm2 llama2_7b] [--dtypes float32] [--lengths 16384] [--out DIR]

Each method of a shape and precision is measured alone and beside it, in turn; seconds are medians. On c cores a fair
share of them is c - 1/2, so that c / (c - 1/2) is what sharing alone costs: 1.33 on two. Torch's dense causal attention
stands beside. No environment variables are set: threads spin as they do by default.
"""

import argparse
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F

from benchmarks.alternatives.backends import by_backend
from benchmarks.alternatives.methods import DENSE, OURS
from benchmarks.measuring.arguments import DTYPES, add_out_argument, positive_seconds
from benchmarks.measuring.machine import save_results
from benchmarks.measuring.shapes import SHAPES, Shape
from benchmarks.measuring.timing import Timing, time_in_turn
from models.lambda_attention import lambda_attention
from utils.arguments import HarnessParser, whole_number
from utils.errors import UserError
from utils.program import SPINS, run_main
from utils.text_tables import as_text

ROUNDS = 2
BUSY = """
import select
while not select.select([0], [], [], 0)[0]:
    for _ in range(1_000_000):
        pass
"""
ENDS_WITHIN = 10  # seconds
SPINNING = (*SPINS, "OMP_WAIT_POLICY")
QUANTITIES = {"seconds": "seconds per layer", "beside_seconds": "seconds per layer beside a busy process"}


@contextmanager
def busy_process() -> Iterator[subprocess.Popen]:
    """In it, another process keeps a core busy. It ends with its standard input, and so with this process."""
    process = subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE)
    try:
        yield process
    finally:
        process.stdin.close()
        process.wait(ENDS_WITHIN)


def methods(shape: Shape, length: int, dtype: torch.dtype) -> dict[str, Callable[[], object]]:
    query, key, value = shape.inputs(length, "cpu", dtype)
    layer = shape.layer()
    dense = partial(
        F.scaled_dot_product_attention, query, key, value, is_causal=True, enable_gqa=query.shape[1] > key.shape[1]
    )
    return {
        OURS: partial(lambda_attention, query, key, value, layer),
        **by_backend(shape, query, key, value),
        DENSE: dense,
    }


@torch.no_grad()
def measure(shape: Shape, length: int, dtype: torch.dtype, repeats: int, budget: float) -> list[dict[str, Any]]:
    """A row for each method."""
    cases = methods(shape, length, dtype)
    alone, beside = ({name: [] for name in cases} for _ in range(2))
    for _ in range(ROUNDS):
        for name, timing in time_in_turn(cases, "cpu", repeats, budget).items():
            alone[name].append(timing.median)
        with busy_process():
            for name, timing in time_in_turn(cases, "cpu", repeats, budget).items():
                beside[name].append(timing.median)
    place = {"panel": f"{shape.label}, {str(dtype).removeprefix('torch.')}", "length": length}
    return [
        {
            **place,
            "method": name,
            "seconds": Timing.of(alone[name]).to_dict(),
            "beside_seconds": Timing.of(beside[name]).to_dict(),
            "times": Timing.of(beside[name]).median / Timing.of(alone[name]).median,
        }
        for name in cases
    ]


def table(rows: list[dict[str, Any]]) -> str:
    lines = [["shape", "tokens", "method", "alone", "beside a busy process", "times"], ""]
    for row in rows:
        seconds = [f"{row[quantity]['median']:.3f} s" for quantity in QUANTITIES]
        lines.append([row["panel"], f"{row['length']:,}", row["method"], *seconds, f"{row['times']:.2f}x"])
    return as_text(lines)


def parse_arguments() -> Namespace:
    parser = HarnessParser(__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--shapes", nargs="+", choices=SHAPES, default=["smollm2"], help="attention layers (default: smollm2)"
    )
    parser.add_argument(
        "--budget",
        type=positive_seconds,
        default=8.0,
        metavar="SECONDS",
        help="a case is repeated no further once its runs of a round have taken this long (default: %(default)s)",
    )
    parser.add_argument(
        "--dtypes",
        nargs="+",
        choices=DTYPES,
        default=["float32", "bfloat16"],
        help="precisions (default: both of these)",
    )
    parser.add_argument(
        "--lengths", nargs="+", type=whole_number(2), default=[16_384], metavar="TOKENS", help="(default: 16384)"
    )
    parser.add_argument(
        "--repeats",
        type=whole_number(1),
        default=3,
        metavar="N",
        help="runs of a case in a round (default: %(default)s)",
    )
    add_out_argument(parser)
    return parser.parse_args()


def refuse_other_spinning() -> None:
    """Raises UserError where the environment has threads spin otherwise than by default."""
    for name in SPINNING:
        if name in os.environ:
            raise UserError(f"{name} is set, and threads are to spin as they do by default: unset it")


def main() -> None:
    arguments, rows = parse_arguments(), []
    refuse_other_spinning()
    results = {"title": "Attention beside a busy process", "quantities": QUANTITIES, "rows": rows}
    for shape in arguments.shapes:
        for dtype in arguments.dtypes:
            for length in arguments.lengths:
                given = arguments.repeats, arguments.budget
                rows += measure(SHAPES[shape], length, getattr(torch, dtype), *given)
                path = save_results(arguments.out, "beside_busy", "cpu", results)
    print(f"{table(rows)}\nwrote {path}")


if __name__ == "__main__":
    run_main(main, tuned=False)  # as torch runs for somebody who uses the library alone
