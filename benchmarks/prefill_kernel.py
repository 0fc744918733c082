"""How fast is Λ-attention over a whole sequence, beside every alternative?

python benchmarks/prefill_kernel.py [--device cuda] [--shapes smollm2] [--dtypes float32] [--lengths 16384 65536]

Alternatives: torch's dense causal attention, a plain window, flex_attention with a Λ-shaped mask (which cannot cap
distances) and the published algorithm. The floor is the products over exactly the attended pairs, at the measured rate
of a matrix product. Λ-attention, the window and the published algorithm encode positions themselves, which counts;
the others get encoded tensors. A method is left out from the length on that would take it more than --limit seconds.
"""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from benchmarks.arguments import add_benchmark_arguments, add_budget_argument, add_by_device, benchmark_parser
from benchmarks.lambda_mask import lambda_mask
from benchmarks.machine import save_results
from benchmarks.measure import Timing, product_rate, time_in_turn
from benchmarks.published import published_attention
from benchmarks.shapes import SHAPES, Shape
from models.lambda_attention import lambda_attention
from utils.errors import run_main
from visualization.text_tables import as_text

LENGTHS = {"cpu": [4096, 16_384, 65_536, 262_144], "cuda": [4096, 32_768, 131_072, 262_144, 1_048_576]}
DTYPES = {"cpu": ["float32", "bfloat16"], "cuda": ["bfloat16"]}
BUDGET = {"cpu": 10.0, "cuda": 1.0}
LIMIT = {"cpu": 60.0, "cuda": 1.5}
OURS, FLOOR = "Λ-attention", "floor"
QUADRATIC = ("dense causal",)
QUANTITIES = {"seconds": "seconds per layer"}

Method = Callable[[], Tensor]


def methods(shape: Shape, length: int, device: str, dtype: torch.dtype) -> dict[str, Method]:
    """What is compared, by name, each ready to run on the same random tensors."""
    query, key, value = shape.inputs(length, device, dtype)
    layer = shape.layer()
    window = shape.layer(replace(shape.config, global_branch=0))
    group = shape.query_heads // shape.key_heads
    encoded = [layer.positions.at(x, 0) for x in (query, key)]

    def flex() -> Tensor:
        mask = lambda_mask(length, shape.local_branch, shape.global_branch, torch.device(device))
        return _compiled_flex()(*encoded, value, block_mask=mask, scale=layer.scale, enable_gqa=group > 1)

    return {
        OURS: lambda: lambda_attention(query, key, value, layer),
        "window": lambda: lambda_attention(query, key, value, window),
        "dense causal": lambda: F.scaled_dot_product_attention(
            *encoded, value, is_causal=True, scale=layer.scale, enable_gqa=group > 1
        ),
        "flex_attention, no cap": flex,
        "published": lambda: published_attention(query, key, value, layer),
    }


@lru_cache(maxsize=1)
def _compiled_flex() -> Callable[..., Tensor]:
    return torch.compile(flex_attention, dynamic=True)


class Expectation:
    """Which methods would take a longer sequence more than `limit` seconds, from what a shorter one took."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.taken: dict[str, tuple[int, float]] = {}

    def allows(self, method: str, length: int) -> bool:
        before, seconds = self.taken.get(method, (length, 0.0))
        return seconds * (length / before) ** (2 if method in QUADRATIC else 1) <= self.limit

    def measured(self, length: int, timings: dict[str, Timing]) -> None:
        self.taken |= {method: (length, timing.median) for method, timing in timings.items()}


@torch.no_grad()
def measure_panel(shape: Shape, dtype: torch.dtype, arguments: Namespace) -> Iterator[list[dict[str, Any]]]:
    """The rows of one shape in one precision, length by length."""
    expectation = Expectation(arguments.limit)
    panel = f"{shape.label}, {str(dtype).removeprefix('torch.')}"
    for length in arguments.lengths:
        cases = methods(shape, length, arguments.device, dtype)
        cases = {name: run for name, run in cases.items() if expectation.allows(name, length)}
        rate = product_rate(arguments.device, dtype)
        timings = time_in_turn(cases, arguments.device, arguments.repeats, arguments.budget)
        rate = max(rate, product_rate(arguments.device, dtype))
        expectation.measured(length, timings)
        place, floor = {"panel": panel, "length": length}, shape.flops(length) / rate
        rows = [{**place, "method": FLOOR, "seconds": floor, "product_flops_per_second": rate}]
        for method, timing in timings.items():
            rows.append({**place, "method": method, "seconds": timing.to_dict(), "of_floor": timing.median / floor})
        print(as_text([_cells(row, rows) for row in rows]), flush=True)
        yield rows


def _cells(row: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    """Panel, length, method, seconds, times the floor and times the time of Λ-attention. rows: those of the length."""
    seconds, of_floor, of_ours = row["seconds"], "", ""
    if isinstance(seconds, dict):
        ours = next(other for other in rows if other["method"] == OURS)
        of_floor, of_ours = f"{row['of_floor']:.2f}x floor", f"{seconds['median'] / ours['seconds']['median']:.2f}x Λ"
        seconds = seconds["median"]
    return [row["panel"], f"{row['length']:,}", row["method"], f"{seconds:.4f} s", of_floor, of_ours]


def parse_arguments() -> Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument(
        "--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), help="attention layers (default: all)"
    )
    add_benchmark_arguments(parser, LENGTHS, DTYPES)
    add_budget_argument(parser, BUDGET)
    add_by_device(
        parser, "--limit", LIMIT, type=float, metavar="SECONDS", help="leave out methods that would take longer"
    )
    return parser.parse_args()


def main() -> None:
    arguments, rows = parse_arguments(), []
    results = {"title": "Attention over a whole sequence", "quantities": QUANTITIES, "rows": rows}
    for shape in arguments.shapes:
        for dtype in arguments.dtypes:
            for found in measure_panel(SHAPES[shape], getattr(torch, dtype), arguments):
                rows += found
                path = save_results("prefill_kernel", arguments.device, results)
    print(f"wrote {path}")


if __name__ == "__main__":
    run_main(main)
