"""How fast is one decoding step of an attention layer, however long the stream, beside every alternative?

python benchmarks/decode_kernel.py [--device cuda] [--shapes smollm2] [--dtypes float32] [--lengths 4096 1048576]

Alternatives: torch's attention to the keys of all tokens (with grouped heads or with folded ones, whichever is faster
here), a plain window, and the published code's step: it keeps all keys, appends by torch.cat, and rotates all of them
again. The floor is reading the keys and values that Λ-attention attends to once, at the measured bandwidth of a copy.
Λ-attention, the window and the published step encode positions and append the token, which counts; dense attention gets
encoded keys in place. A token goes through several layers, each with a cache of its own as far as memory allows, and
seconds are per layer. A method that needs more than --memory_share of the device's memory is left out. On CUDA every
method is captured as a CUDA graph.
"""

import argparse
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measuring.arguments import add_benchmark_arguments, add_budget_argument, benchmark_parser
from benchmarks.measuring.filled_cache import filled_cache
from benchmarks.measuring.machine import save_results
from benchmarks.measuring.memory import memory_of
from benchmarks.measuring.shapes import SHAPES, Shape
from benchmarks.measuring.timing import Timing, copy_bandwidth, seconds_of, time_in_turn
from models.attention.decode.step import Heads, decode_step
from models.decode_graph import captured
from models.lambda_attention import LambdaConfig, lambda_attention
from utils.arguments import finite_number
from utils.program import run_main
from utils.text_tables import as_text
from visualization.drawing.benchmark_results import FLOOR

LENGTHS = {
    "cpu": [4096, 16_384, 65_536, 1_048_576],
    "cuda": [4096, 16_384, 65_536, 262_144, 1_048_576],
}
DTYPES = {"cpu": ["float32", "bfloat16"], "cuda": ["bfloat16"]}
BUDGET = {"cpu": 2.0, "cuda": 1.0}
LAYERS = 8
PUBLISHED_COPIES = 4
"""Copies that the published step holds at once of its keys and values: these, appended, rotated, and on the way."""
OURS, WINDOW, DENSE, PUBLISHED = "Λ-attention", "window", "dense", "published"
QUANTITIES = {"seconds": "seconds per token and layer"}

Token = tuple[Tensor, Tensor, Tensor]
"""query `[1, Hq, 1, d]`, key and value `[1, Hkv, 1, d]`, without positions."""


@dataclass(frozen=True)
class Method:
    """run: one token through `layers` layers; returns the output of the last, `[1, Hq, 1, d]`."""

    run: Callable[[], Tensor]
    layers: int


def stored_bytes(shape: Shape, tokens: int, dtype: torch.dtype) -> int:
    """Bytes of the keys and values of so many tokens in one layer."""
    return 2 * tokens * shape.key_heads * shape.head_dim * dtype.itemsize


def kept_tokens(shape: Shape, length: int) -> int:
    """Number of tokens that the one after `length` others attends to."""
    window = min(length + 1, shape.local_branch)
    return window + min(shape.global_branch, length + 1 - window)


def lambda_method(shape: Shape, config: LambdaConfig, length: int, token: Token, text: tuple[Tensor, Tensor]) -> Method:
    """text: key and value `[1, Hkv, length, d]`, or the part of it that is kept."""
    layer, query = shape.layer(config), token[0]
    caches = [filled_cache(config, *text, layer, length) for _ in range(LAYERS)]

    def ordinary() -> Tensor:
        return [lambda_attention(*token, layer, cache) for cache in caches][-1]

    if not query.is_cuda:
        return Method(ordinary, LAYERS)
    position = torch.tensor([length], device=query.device)
    encoding, heads = layer.positions.on(query.device), Heads.of(query, token[1], layer.scale)

    def static() -> Tensor:
        step = decode_step(config, encoding, heads, position, config.local_branch, config.global_branch)
        for cache in caches:
            cache.step = step
        return ordinary()

    return Method(captured(static), LAYERS)


def dense_method(shape: Shape, dtype: torch.dtype, token: Token, text: tuple[Tensor, Tensor], budget: int) -> Method:
    """Attention to all of `text`, whose keys count as encoded: grouped or folded, whichever is faster here."""
    query, scale = token[0], shape.head_dim**-0.5
    layers = min(LAYERS, budget // stored_bytes(shape, text[0].shape[-2], dtype))
    texts = [text, *(tuple(x.clone() for x in text) for _ in range(layers - 1))]
    folded = query.view(1, shape.key_heads, -1, shape.head_dim)

    def run_grouped() -> Tensor:
        return [F.scaled_dot_product_attention(query, *x, scale=scale, enable_gqa=True) for x in texts][-1]

    def run_folded() -> Tensor:
        return [F.scaled_dot_product_attention(folded, *x, scale=scale) for x in texts][-1].view_as(query)

    candidates = [run_folded]
    if shape.query_heads > shape.key_heads:
        candidates.append(run_grouped)
    return Method(_fastest(_ready(candidates, query.device.type), query.device.type), layers)


def _fastest(runs: list[Callable[[], Tensor]], device: str) -> Callable[[], Tensor]:
    return min(runs, key=lambda run: min(seconds_of(run, device) for _ in range(3)))


def _ready(runs: list[Callable[[], Tensor]], device: str) -> list[Callable[[], Tensor]]:
    """Warmed up, and captured where that is possible."""
    runs = [captured(run) for run in runs] if device == "cuda" else runs
    for run in runs:
        run()
    return runs


def published_method(
    shape: Shape, dtype: torch.dtype, token: Token, text: tuple[Tensor, Tensor], budget: int
) -> Method:
    """`text` is kept as projected, and copied, rotated and scored whole, as if nothing was ever dropped."""
    layer, (query, *new) = shape.layer(), token
    stored = stored_bytes(shape, text[0].shape[-2], dtype)
    layers = max(1, min(LAYERS, budget // stored - PUBLISHED_COPIES + 1))
    texts = [text, *(tuple(x.clone() for x in text) for _ in range(layers - 1))]
    length, first = text[0].shape[-2], shape.global_branch
    near, far = layer.positions.at(query, length), layer.positions.at_distance(query, shape.local_branch)
    near, far = (x.view(1, shape.key_heads, -1, shape.head_dim) * layer.scale for x in (near, far))
    place = torch.arange(length + 1, device=query.device)
    table, beyond = layer.positions.table(place), length - place >= shape.local_branch
    middle = beyond & (place >= first)

    def attend(text: tuple[Tensor, Tensor]) -> Tensor:
        key, value = (torch.cat(parts, 2) for parts in zip(text, new))
        scores = near @ layer.positions.rotate(key, table).mT
        at_limit = far @ key[:, :, :first].mT
        scores[..., :first] = torch.where(beyond[:first], at_limit, scores[..., :first])
        return (scores.masked_fill(middle, -torch.inf).softmax(-1) @ value).view_as(query)

    def run() -> Tensor:
        return [attend(text) for text in texts][-1]

    return Method(_ready([run], query.device.type)[0], layers)


def methods(shape: Shape, length: int, device: str, dtype: torch.dtype, budget: int) -> dict[str, Method]:
    """Methods to compare, by name, on random keys and values. budget: the bytes that one of them may take."""
    token = tuple(shape.inputs(1, device, dtype))
    needed, whole = kept_tokens(shape, length), stored_bytes(shape, length, dtype)
    keeps_all = whole <= budget
    text = tuple(shape.inputs(length if keeps_all else needed, device, dtype)[1:])
    found = {
        OURS: lambda_method(shape, shape.config, length, token, text),
        WINDOW: lambda_method(shape, replace(shape.config, global_branch=0), length, token, text),
    }
    if keeps_all:
        text = tuple(x.contiguous() for x in text)
        found[DENSE] = dense_method(shape, dtype, token, text, budget)
    if PUBLISHED_COPIES * whole <= budget:
        found[PUBLISHED] = published_method(shape, dtype, token, text, budget)
    return found


@torch.no_grad()
def measure_panel(shape: Shape, dtype: torch.dtype, arguments: Namespace) -> Iterator[list[dict[str, Any]]]:
    """The rows of one shape in one precision, length by length."""
    budget = int(arguments.memory_share * memory_of(arguments.device))
    panel = f"{shape.label}, {str(dtype).removeprefix('torch.')}"
    for length in arguments.lengths:
        cases = methods(shape, length, arguments.device, dtype, budget)
        bandwidth = copy_bandwidth(arguments.device)
        runs = {name: method.run for name, method in cases.items()}
        timings = time_in_turn(runs, arguments.device, arguments.repeats, arguments.budget)
        bandwidth = max(bandwidth, copy_bandwidth(arguments.device))
        place, floor = {"panel": panel, "length": length}, stored_bytes(shape, kept_tokens(shape, length), dtype)
        rows = [{**place, "method": FLOOR, "seconds": floor / bandwidth, "bytes_per_second": bandwidth}]
        for name, timing in timings.items():
            timing = per_layer(timing, cases[name].layers)
            of_floor = timing.median / (floor / bandwidth)
            rows.append({**place, "method": name, "seconds": timing.to_dict(), "of_floor": of_floor})
        print(as_text([_cells(row, rows) for row in rows]), flush=True)
        yield rows


def per_layer(timing: Timing, layers: int) -> Timing:
    seconds = {name: value / layers for name, value in asdict(timing).items() if name != "repeats"}
    return Timing(**seconds, repeats=timing.repeats)


def _cells(row: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    """Panel, length, method, µs, times the floor and times the time of Λ-attention. rows: those of the length."""
    seconds, of_floor, of_ours = row["seconds"], "", ""
    if isinstance(seconds, dict):
        ours = next(other for other in rows if other["method"] == OURS)
        of_floor, of_ours = f"{row['of_floor']:.2f}x floor", f"{seconds['median'] / ours['seconds']['median']:.2f}x Λ"
        seconds = seconds["median"]
    return [row["panel"], f"{row['length']:,}", row["method"], f"{1e6 * seconds:,.0f} µs", of_floor, of_ours]


def _share(text: str) -> float:
    value = finite_number(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be more than 0 and at most 1, not {text}")
    return value


def parse_arguments() -> Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument(
        "--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), help="attention layers (default: all)"
    )
    add_benchmark_arguments(parser, LENGTHS, DTYPES, repeats=30)
    add_budget_argument(parser, BUDGET)
    parser.add_argument(
        "--memory_share",
        type=_share,
        default=0.2,
        metavar="SHARE",
        help="leave out methods that would take more of the device's memory (default: %(default)s)",
    )
    return parser.parse_args()


def main() -> None:
    arguments, rows = parse_arguments(), []
    results = {"title": "Attention of one decoded token", "quantities": QUANTITIES, "rows": rows}
    for shape in arguments.shapes:
        for dtype in arguments.dtypes:
            for found in measure_panel(SHAPES[shape], getattr(torch, dtype), arguments):
                rows += found
                path = save_results(arguments.out, "decode_kernel", arguments.device, results)
    print(f"wrote {path}")


if __name__ == "__main__":
    run_main(main, tuned=False)  # alternatives are measured as torch runs them by default
