"""How do time and working memory grow with the length? Exponents, fitted by least squares in log-log.

python benchmarks/growth.py [--device cuda] [--shapes smollm2] [--dtypes float32] [--lengths 4096 8192 16384 32768]

Time in one process, case by case in turn; memory as benchmarks/attention_memory.py measures it, the published algorithm
beside. Each fit takes the longest lengths of a method, where what is constant counts least; a method is left out from
the length on at which one run of it is expected to take longer than --budget. The floor is the products over exactly
the attended pairs, at the measured rate of `torch.mm`: its exponent is what Λ-attention's could be. Last, Λ-attention's
time at --quadrupled tokens over that at a quarter of them, the two in turn.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from benchmarks.alternatives.methods import DENSE, METHODS, OURS
from benchmarks.measuring.arguments import add_benchmark_arguments, add_budget_argument, add_by_device, benchmark_parser
from benchmarks.measuring.children import Case
from benchmarks.measuring.machine import save_results
from benchmarks.measuring.shapes import SHAPES
from benchmarks.measuring.timing import FLOOR_REPEATS, MM, product_cases, product_rate, time_in_turn
from benchmarks.measuring.working_memory import cases, memory_rows, shares_of_published
from utils.arguments import whole_number
from utils.program import run_main
from utils.text_tables import Row, as_text
from visualization.drawing.benchmark_results import FLOOR

LENGTHS = {
    "cpu": [8192, 16_384, 32_768, 65_536],
    "cuda": [16_384, 32_768, 65_536, 131_072, 262_144],
}
DTYPES = {"cpu": ["float32", "bfloat16"], "cuda": ["bfloat16"]}
SHAPE = {"cpu": ["smollm2"], "cuda": ["llama2_7b"]}
BUDGET = {"cpu": 5.0, "cuda": 3.0}
QUADRUPLED = {"cpu": 131_072, "cuda": 262_144}
ENDLESS = 1e6
"""Seconds: a budget that ends nothing."""
FITTED = 4
"""Lengths in a fit at most, the longest."""
TIMED = (OURS, DENSE)
TITLE = "Growth of one attention layer with the length"
QUANTITIES = {"seconds": "seconds per forward", "memory_mib": "working memory beyond input and output, MiB"}


@torch.no_grad()
def time_rows(case: Case, lengths: Sequence[int], repeats: int, budget: float) -> list[Case]:
    """Seconds of Λ-attention and of dense causal attention by length, and of the floor."""
    shape, device, dtype = SHAPES[case["shape"]], case["device"], getattr(torch, case["dtype"])
    rows, layer = [], shape.layer()
    products = product_cases(device, dtype)
    rate = product_rate(time_in_turn({MM: products[MM]}, device, FLOOR_REPEATS)[MM])
    left = dict.fromkeys(TIMED, 0.0)  # seconds that one run is expected to take
    for place, length in enumerate(lengths):
        tensors = shape.inputs(length, device, dtype)
        runs = {method: partial(METHODS[method].attend, *tensors, layer) for method in left}
        timings = time_in_turn(runs, device, repeats, budget) if runs else {}
        for method, timing in timings.items():
            rows.append({"panel": case["panel"], "method": method, "length": length, "seconds": timing.to_dict()})
            growth = lengths[min(place + 1, len(lengths) - 1)] / length
            left[method] = timing.median * growth ** METHODS[method].exponent
        rows.append({"panel": case["panel"], "method": FLOOR, "length": length, "seconds": shape.flops(length) / rate})
        left = {method: seconds for method, seconds in left.items() if seconds <= budget}
    return rows


@torch.no_grad()
def quadrupled(case: Case, length: int, repeats: int) -> list[Case]:
    """Seconds of Λ-attention at `length` and at a quarter of it, in turn, and the ratio of their medians.

    Nothing where memory runs out.
    """
    shape, device, dtype = SHAPES[case["shape"]], case["device"], getattr(torch, case["dtype"])
    attend, layer = METHODS[OURS].attend, shape.layer()
    runs = {n: partial(attend, *shape.inputs(n, device, dtype), layer) for n in (length // 4, length)}
    timings = time_in_turn(runs, device, repeats, ENDLESS)
    if len(timings) < len(runs):
        return []
    quarter, whole = timings.values()
    times = {"quarter": quarter.to_dict(), "whole": whole.to_dict()}
    return [{"panel": case["panel"], "length": length, **times, "ratio": whole.median / quarter.median}]


def fit_exponent(lengths: Sequence[float], values: Sequence[float]) -> Case:
    """Slope of log value over log length by least squares, and its standard error, None with fewer than 3 points."""
    x, y = np.log(lengths), np.log(values)
    x = x - x.mean()
    slope = float(x @ y / (x @ x))
    residual = y - y.mean() - slope * x
    degrees = len(x) - 2
    error = float(np.sqrt(residual @ residual / degrees / (x @ x))) if degrees > 0 else None
    return {"exponent": slope, "standard_error": error}


def exponents(rows: list[Case]) -> list[Case]:
    """The fits of each panel, quantity and method that has two lengths or more."""
    found = []
    places = dict.fromkeys((row["panel"], name, row["method"]) for name in QUANTITIES for row in rows if name in row)
    for panel, name, method in places:
        points = [
            (row["length"], _number(row[name]))
            for row in rows
            if (row["panel"], row["method"]) == (panel, method) and name in row
        ]
        points = sorted(point for point in points if point[1] > 0)[-FITTED:]
        if len(points) > 1:
            fit = fit_exponent(*zip(*points))
            lengths = [length for length, _ in points]
            found.append({"panel": panel, "quantity": name, "method": method, "lengths": lengths, **fit})
    return found


def _number(value: Case | float) -> float:
    return value["median"] if isinstance(value, dict) else value


def table(fits: list[Case]) -> str:
    """The exponents, a line for each."""
    lines: list[Row | str] = [["shape", "quantity", "method", "lengths", "exponent", "standard error"], ""]
    for fit in fits:
        lengths = f"{fit['lengths'][0]:,} to {fit['lengths'][-1]:,}"
        error = "-" if fit["standard_error"] is None else f"{fit['standard_error']:.3f}"
        quantity = "time" if fit["quantity"] == "seconds" else "memory"
        lines.append([fit["panel"], quantity, fit["method"], lengths, f"{fit['exponent']:.3f}", error])
    return as_text(lines)


def parse_arguments() -> Namespace:
    parser = benchmark_parser(__doc__)
    add_by_device(parser, "--shapes", SHAPE, nargs="+", choices=SHAPES, help="attention shapes")
    add_benchmark_arguments(parser, LENGTHS, DTYPES, repeats=3)
    add_budget_argument(parser, BUDGET)
    add_by_device(
        parser,
        "--quadrupled",
        QUADRUPLED,
        type=whole_number(8),
        metavar="TOKENS",
        help="the longer of two lengths whose times are compared in turn",
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    settings = (arguments.lengths, arguments.repeats, arguments.budget)
    rows, ratios = [], []
    for case in cases(arguments):
        for measure in (time_rows, memory_rows):
            rows += measure(case, *settings)
            fits = exponents(rows)
            results = {"title": TITLE, "quantities": QUANTITIES, "rows": rows, "exponents": fits, "quadrupled": ratios}
            save_results(arguments.out, "growth", arguments.device, results)
        ratios += quadrupled(case, arguments.quadrupled, arguments.repeats)
        path = save_results(arguments.out, "growth", arguments.device, results)
    print(f"\n{table(fits)}")
    for found in ratios:
        few, many = found["length"] // 4, found["length"]
        print(f"{found['panel']}: {many:,} tokens take {found['ratio']:.2f} times as long as {few:,}")
    for panel, length, share in shares_of_published(rows):
        print(f"{panel}, {length:,} tokens: {1 / share:.1f} times less working memory than the published algorithm")
    print(f"wrote {path}")


if __name__ == "__main__":
    run_main(main, tuned=False)  # alternatives are measured as torch runs them by default
