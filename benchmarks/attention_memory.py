"""Does the working memory of Λ-attention grow with the length? Input and output do not count.

On the CPU each measurement is a process of its own; of several, the median counts, for allocators vary by tens of MiB.
Beside it torch's dense causal attention and the published algorithm; a method is left out from the length on at which
one run of it is expected to take longer than --budget.

python benchmarks/attention_memory.py [--device cuda] [--shapes smollm2] [--dtypes bfloat16] [--lengths 16384 65536]
"""

import sys
from argparse import Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.alternatives.methods import METHODS, OURS
from benchmarks.measuring.arguments import add_benchmark_arguments, add_budget_argument, benchmark_parser
from benchmarks.measuring.children import Case, add_case_argument, answer
from benchmarks.measuring.machine import save_results
from benchmarks.measuring.shapes import SHAPES
from benchmarks.measuring.working_memory import cases, cells, measure, rows_of, shares_of_published
from utils.program import run_main
from utils.text_tables import Row, as_text

LENGTHS = {"cpu": [16_384, 65_536, 262_144], "cuda": [16_384, 65_536, 262_144, 1_048_576]}
DTYPES = {"cpu": ["float32"], "cuda": ["bfloat16"]}
BUDGET = {"cpu": 20.0, "cuda": 5.0}
QUANTITIES = {"memory_mib": "working memory beyond input and output, MiB"}


def table(rows: list[Case]) -> str:
    """The rows, then how many times less than the published algorithm Λ-attention takes."""
    lines: list[Row | str] = [["shape", "tokens", "method", "MiB", "lowest", "highest", "runs"], ""]
    lines += map(cells, rows)
    lines.append("times less than the published algorithm")
    for panel, length, share in shares_of_published(rows):
        lines.append([panel, f"{length:,}", OURS, f"{1 / share:.1f}x", "", "", ""])
    return as_text(lines)


def parse_arguments() -> Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument(
        "--shapes", nargs="+", choices=SHAPES, default=["smollm2"], help="attention shapes (default: smollm2)"
    )
    add_benchmark_arguments(parser, LENGTHS, DTYPES, repeats=3)
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
            path = save_results(arguments.out, "attention_memory", arguments.device, results)
    print(f"\n{table(rows)}\nwrote {path}")


if __name__ == "__main__":
    run_main(main, tuned=False)  # alternatives are measured as torch runs them by default
