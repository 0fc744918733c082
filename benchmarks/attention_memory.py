"""Does the working memory of Λ-attention grow with the length? Input and output do not count.

On the CPU each measurement is a process of its own; of several, the median counts, for allocators vary by tens of MiB.
Beside it torch's dense causal attention and the published algorithm; a method is left out from the length on at which
one run of it is expected to take longer than --budget.

python benchmarks/attention_memory.py [--device cuda] [--shapes smollm2] [--dtypes bfloat16] [--lengths 16384 65536]
"""

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.alternatives.published import published_attention
from benchmarks.measuring.arguments import add_benchmark_arguments, add_budget_argument, benchmark_parser
from benchmarks.measuring.children import Case, add_case_argument, answer, attempt, measure_apart
from benchmarks.measuring.machine import save_results
from benchmarks.measuring.memory import MIB, PeakMemory
from benchmarks.measuring.shapes import SHAPES
from benchmarks.measuring.timing import Timing, seconds_of
from models.lambda_attention import AttentionLayer, lambda_attention
from utils.program import run_main
from utils.text_tables import Row, as_text

OURS, DENSE, PUBLISHED = "Λ-attention", "dense causal", "published"
LENGTHS = {"cpu": [16_384, 65_536, 262_144], "cuda": [16_384, 65_536, 262_144, 1_048_576]}
DTYPES = {"cpu": ["float32"], "cuda": ["bfloat16"]}
BUDGET = {"cpu": 60.0, "cuda": 5.0}
QUANTITIES = {"memory_mib": "working memory beyond input and output, MiB"}
WARM_UP = 600


@dataclass(frozen=True)
class Method:
    """attend: as `lambda_attention`, on a whole sequence. exponent: its time grows with this power of the length."""

    attend: Callable[[Tensor, Tensor, Tensor, AttentionLayer], Tensor]
    exponent: int


def dense_attention(query: Tensor, key: Tensor, value: Tensor, layer: AttentionLayer) -> Tensor:
    """Causal attention of torch; positions are left out."""
    grouped = query.shape[1] > key.shape[1]
    return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=layer.scale, enable_gqa=grouped)


METHODS = {
    OURS: Method(lambda_attention, 1),
    DENSE: Method(dense_attention, 2),
    PUBLISHED: Method(published_attention, 1),
}


@torch.no_grad()
def measure(case: Case) -> Case:
    """MiB of working memory beyond input and output and seconds, after a warm-up that loads the libraries."""
    shape, device, dtype = SHAPES[case["shape"]], case["device"], getattr(torch, case["dtype"])
    attend, layer, output = METHODS[case["method"]].attend, shape.layer(), []
    attend(*shape.inputs(WARM_UP, device, dtype), layer)
    tensors, memory = shape.inputs(case["length"], device, dtype), PeakMemory(device)
    if device == "cuda":
        attend(*tensors, layer)  # kernels are made for it
    before = memory.start()
    seconds = seconds_of(lambda: output.append(attend(*tensors, layer)), device)
    return {"memory_mib": (memory.peak() - before - output[0].nbytes) / MIB, "seconds": seconds}


def memory_rows(case: Case, lengths: Sequence[int], repeats: int, budget: float) -> list[Case]:
    """The rows of all methods for one shape and precision. case: "panel", "shape", "dtype" and "device"."""
    return [row for method in METHODS for row in rows_of(method, case, lengths, repeats, budget)]


def rows_of(method: str, case: Case, lengths: Sequence[int], repeats: int, budget: float) -> list[Case]:
    """Rows up to the length at which one run would take too long, or memory runs out."""
    rows: list[Case] = []
    for length in lengths:
        if rows and _expected_seconds(rows[-1], length) > budget:
            break
        runs = _runs({**case, "method": method, "length": length}, repeats, budget)
        if not runs:
            break
        memory = Timing.of([run["memory_mib"] for run in runs]).to_dict()
        seconds = median(run["seconds"] for run in runs)
        place = {"panel": case["panel"], "method": method, "length": length}
        rows.append({**place, "memory_mib": memory, "run_seconds": seconds})
        print("  ".join(_cells(rows[-1])), flush=True)
    return rows


def _expected_seconds(row: Case, length: int) -> float:
    """Seconds of one run at this length, from a shorter one."""
    return row["run_seconds"] * (length / row["length"]) ** METHODS[row["method"]].exponent


def _runs(case: Case, repeats: int, budget: float) -> list[Case]:
    """Several measurements of one case; none where memory ran out. On a GPU one: torch's count does not vary."""
    if case["device"] == "cuda":
        found = attempt(measure, case)
        return [found] if found else []
    runs: list[Case] = []
    while len(runs) < repeats and (not runs or (len(runs) + 1) * runs[0]["seconds"] <= budget):
        found = measure_apart(__file__, case)
        if found is None:
            return []
        runs.append(found)
    return runs


def _cells(row: Case) -> Row:
    memory = row["memory_mib"]
    numbers = [f"{memory[name]:,.1f}" for name in ("median", "low", "high")]
    return [row["panel"], f"{row['length']:,}", row["method"], *numbers, str(memory["repeats"])]


def table(rows: list[Case]) -> str:
    """The rows, then how many times less than the published algorithm Λ-attention takes."""
    lines: list[Row | str] = [["shape", "tokens", "method", "MiB", "lowest", "highest", "runs"], ""]
    lines += map(_cells, rows)
    lines.append("times less than the published algorithm")
    for panel, length, share in shares_of_published(rows):
        lines.append([panel, f"{length:,}", OURS, f"{1 / share:.1f}x", "", "", ""])
    return as_text(lines)


def shares_of_published(rows: list[Case]) -> list[tuple[str, int, float]]:
    """Panel, length, and the share of the published algorithm's working memory that Λ-attention takes."""
    memory = {
        (row["panel"], row["length"], row["method"]): row["memory_mib"]["median"] for row in rows if "memory_mib" in row
    }
    return [
        (panel, length, memory[panel, length, OURS] / published)
        for (panel, length, method), published in memory.items()
        if method == PUBLISHED and memory.get((panel, length, OURS), 0) > 0
    ]


def cases(arguments: Namespace) -> list[Case]:
    """One for each shape and precision."""
    return [
        {"panel": f"{SHAPES[shape].label}, {dtype}", "shape": shape, "dtype": dtype, "device": arguments.device}
        for shape in arguments.shapes
        for dtype in arguments.dtypes
    ]


def parse_arguments() -> Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument(
        "--shapes", nargs="+", choices=SHAPES, default=["smollm2"], help="attention shapes (default: smollm2)"
    )
    add_benchmark_arguments(parser, LENGTHS, DTYPES)
    add_budget_argument(parser, BUDGET)
    add_case_argument(parser)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if arguments.case:
        answer(measure, arguments.case)
        return
    rows = []
    results = {
        "title": "Working memory of one attention layer",
        "quantities": QUANTITIES,
        "rows": rows,
        "lambda_attention": {shape: SHAPES[shape].config.to_dict() for shape in arguments.shapes},
    }
    for case in cases(arguments):
        for method in METHODS:
            rows += rows_of(method, case, arguments.lengths, arguments.repeats, arguments.budget)
            path = save_results("attention_memory", arguments.device, results)
    print(f"\n{table(rows)}\nwrote {path}")


if __name__ == "__main__":
    run_main(main, tuned=False)  # alternatives are measured as torch runs them by default
