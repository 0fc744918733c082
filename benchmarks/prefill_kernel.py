"""How fast is Λ-attention over a whole sequence, beside every alternative?

python benchmarks/prefill_kernel.py [--device cuda] [--shapes smollm2] [--dtypes float32] [--lengths 16384 65536]

Each backend is measured besides the one that is chosen, as "Λ-attention, edges" and so on, where it can attend.
Alternatives: torch's dense causal attention, a plain window, flex_attention with a Λ-shaped mask (which cannot cap
distances) and the published algorithm. The floor is the products over exactly the attended pairs, at the rate of
`torch.mm`, measured in turn with the methods; beside it stands that of oneDNN's float32 products on the CPU, which
Λ-attention may take. "Of what its pairs allow" is how much faster than dense attention it is, by the ratio of their
pairs. Λ-attention, the window and the published algorithm encode positions themselves, which counts; the others get
encoded tensors. A method is left out from the length on that would take it more than --limit seconds, or more memory
than there is; on the CPU the window and each backend by its name from a third of these seconds on. The published
algorithm's turn comes after that of all others: while the system takes back its gigabytes, whatever follows is slower.
"""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from benchmarks.alternatives.backends import by_backend
from benchmarks.alternatives.lambda_mask import lambda_mask
from benchmarks.alternatives.methods import DENSE, OURS, PUBLISHED
from benchmarks.alternatives.published import published_attention
from benchmarks.measuring.arguments import (
    add_benchmark_arguments,
    add_budget_argument,
    add_by_device,
    benchmark_parser,
    positive_seconds,
)
from benchmarks.measuring.machine import save_results
from benchmarks.measuring.memory import memory_of
from benchmarks.measuring.shapes import SHAPES, Shape
from benchmarks.measuring.timing import MM, ONEDNN, Timing, product_cases, product_rate, time_in_turn
from models.lambda_attention import lambda_attention
from utils.errors import UserError
from utils.program import run_main
from utils.text_tables import as_text
from visualization.drawing.benchmark_results import FLOOR

LENGTHS = {"cpu": [16_384, 65_536], "cuda": [4096, 32_768, 131_072, 262_144, 1_048_576]}
DTYPES = {"cpu": ["float32", "bfloat16"], "cuda": ["bfloat16"]}
BUDGET = {"cpu": 6.0, "cuda": 1.0}
LIMIT = {"cpu": 50.0, "cuda": 1.5}
SHARE_OF_VARIANTS = {"cpu": 1 / 3, "cuda": 1.0}
"""Share of the limit within which what is nearly Λ-attention is measured beside it: it takes as long, several times."""
MEMORY_SHARE = 0.5
"""Share of the device's memory that the tensors of a length may take: the methods need room beside them."""
WINDOW, FLEX = "window", "flex_attention, no cap"
QUADRATIC, COMPILED = (DENSE,), (FLEX,)
QUANTITIES = {"seconds": "seconds per layer"}
RATES = {MM: "product_flops_per_second", ONEDNN: "onednn_flops_per_second"}
"""Of a floor's row, the rates of products."""

Method = Callable[[], Tensor]


def methods(shape: Shape, length: int, device: str, dtype: torch.dtype) -> dict[str, Method]:
    """Methods to compare, by name, each ready to run on the same random tensors."""
    query, key, value = shape.inputs(length, device, dtype)
    layer = shape.layer()
    window = shape.layer(replace(shape.config, global_branch=0))
    group = shape.query_heads // shape.key_heads
    encoded = [layer.positions.at(x, 0) for x in (query, key)]
    mask = lambda_mask(length, shape.local_branch, shape.global_branch, torch.device(device))

    def flex() -> Tensor:
        return _compiled_flex()(*encoded, value, block_mask=mask, scale=layer.scale, enable_gqa=group > 1)

    return {
        OURS: lambda: lambda_attention(query, key, value, layer),
        **by_backend(shape, query, key, value),
        WINDOW: lambda: lambda_attention(query, key, value, window),
        DENSE: lambda: F.scaled_dot_product_attention(
            *encoded, value, is_causal=True, scale=layer.scale, enable_gqa=group > 1
        ),
        FLEX: flex,
        PUBLISHED: lambda: published_attention(query, key, value, layer),
    }


@lru_cache(maxsize=1)
def _compiled_flex() -> Callable[..., Tensor]:
    return torch.compile(flex_attention, dynamic=True)


class Expectation:
    """Tells which methods would take more than `limit` seconds at a longer sequence, from what a shorter one took.

    share: of the limit, for the variants of Λ-attention.
    """

    def __init__(self, limit: float, share: float = 1.0) -> None:
        self.limit, self.share = limit, share
        self.taken: dict[str, tuple[int, float]] = {}

    def allows(self, method: str, length: int) -> bool:
        before, seconds = self.taken.get(method, (length, 0.0))
        limit = self.limit * (self.share if method == WINDOW or method.startswith(f"{OURS}, ") else 1)
        return seconds * (length / before) ** (2 if method in QUADRATIC else 1) <= limit

    def measured(self, length: int, timings: dict[str, Timing]) -> None:
        self.taken |= {method: (length, timing.median) for method, timing in timings.items()}


@torch.no_grad()
def measure_panel(
    shape: Shape, dtype: torch.dtype, arguments: Namespace, others: bool, floors: dict[tuple[str, int], float]
) -> Iterator[list[dict[str, Any]]]:
    """The rows of a shape in one precision, length by length. others: all but the published algorithm; else only it.

    floors: by panel and length, in seconds; filled with those of the others, and read for the published algorithm.
    """
    expectation = Expectation(arguments.limit, SHARE_OF_VARIANTS[arguments.device])
    panel = f"{shape.label}, {str(dtype).removeprefix('torch.')}"
    for length in arguments.lengths:
        if _tensor_bytes(shape, length, dtype) > MEMORY_SHARE * memory_of(arguments.device):
            return
        cases = methods(shape, length, arguments.device, dtype)
        cases = {name: run for name, run in cases.items() if (name != PUBLISHED) == others}
        cases = {name: run for name, run in cases.items() if expectation.allows(name, length)}
        place = {"panel": panel, "length": length}
        products = product_cases(arguments.device, dtype) if others else {}
        timings = time_in_turn({**cases, **products}, arguments.device, arguments.repeats, arguments.budget, COMPILED)
        rate_of = {name: product_rate(timings.pop(name)) for name in products}
        expectation.measured(length, timings)
        rows = []
        if others:
            floors[panel, length] = shape.flops(length) / rate_of[MM]
            rates = {RATES[name]: rate for name, rate in rate_of.items()}
            rows.append({**place, "method": FLOOR, "seconds": floors[panel, length], **rates})
        floor = floors[panel, length]
        for method, timing in timings.items():
            gain = _gain(shape, length, timings) if method == OURS else {}
            ratios = {"of_floor": timing.median / floor, **gain}
            rows.append({**place, "method": method, "seconds": timing.to_dict(), **ratios})
        yield rows


def _gain(shape: Shape, length: int, timings: dict[str, Timing]) -> dict[str, float]:
    """How much faster than dense causal attention Λ-attention is, as a share of what its fewer pairs allow."""
    if DENSE not in timings:
        return {}
    allowed = length * (length + 1) / 2 / shape.attended_pairs(length)
    return {"of_allowed": timings[DENSE].median / timings[OURS].median / allowed}


def _tensor_bytes(shape: Shape, length: int, dtype: torch.dtype) -> int:
    """Bytes of the inputs, of query and key encoded, and of an output."""
    heads = 3 * (shape.query_heads + shape.key_heads)
    return heads * shape.head_dim * length * dtype.itemsize


def table(rows: list[dict[str, Any]]) -> str:
    """Panel, length, method, seconds, times the floor, and times the time of Λ-attention where that was measured.

    Of Λ-attention, where dense attention was measured, the share of the gain that its fewer pairs allow besides. Of a
    floor the rates of products instead.
    """
    ours = {(row["panel"], row["length"]): row["seconds"]["median"] for row in rows if row["method"] == OURS}
    lines = []
    for row in rows:
        seconds = row["seconds"]
        if row["method"] == FLOOR:
            cells = [f"{row[rate] / 1e9:.0f} GFLOP/s {name}" for name, rate in RATES.items() if rate in row]
        else:
            seconds, own = seconds["median"], ours.get((row["panel"], row["length"]))
            cells = [f"{row['of_floor']:.2f}x floor", f"{seconds / own:.2f}x Λ" if own else ""]
            if "of_allowed" in row:
                cells.append(f"{100 * row['of_allowed']:.0f} % of what its pairs allow over dense")
        lines.append([row["panel"], f"{row['length']:,}", row["method"], f"{seconds:.4f} s", *cells])
    return as_text(lines)


def parse_arguments() -> Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument(
        "--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), help="attention layers (default: all)"
    )
    add_benchmark_arguments(parser, LENGTHS, DTYPES)
    add_budget_argument(parser, BUDGET)
    add_by_device(
        parser,
        "--limit",
        LIMIT,
        type=positive_seconds,
        metavar="SECONDS",
        help="leave out methods that would take longer",
    )
    return parser.parse_args()


def main() -> None:
    arguments, rows, floors = parse_arguments(), [], {}
    results = {"title": "Attention over a whole sequence", "quantities": QUANTITIES, "rows": rows}
    for others, shape, dtype in product((True, False), arguments.shapes, arguments.dtypes):
        for found in measure_panel(SHAPES[shape], getattr(torch, dtype), arguments, others, floors):
            rows += found
            if found:
                print(table(found), flush=True)
                path = save_results(arguments.out, "prefill_kernel", arguments.device, results)
    if not rows:
        raise UserError(f"--lengths {arguments.lengths[0]}: its tensors take more than half the memory, give less")
    print(f"\n{table(sorted(rows, key=lambda row: (row['panel'], row['length'])))}\nwrote {path}")


if __name__ == "__main__":
    run_main(main, tuned=False)  # alternatives are measured as torch runs them by default
