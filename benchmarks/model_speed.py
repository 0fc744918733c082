"""How fast does a whole model read a prompt and generate after it, and in how much memory, vanilla beside Λ-attention?

python benchmarks/model_speed.py [--device cuda] [--model smollm2] [--dtypes float32] [--lengths 8192 32768]

On the CPU each method at each length is a process of its own, so that its peak memory is its own; on CUDA, where torch
counts it, all are one process. The prompt is of random tokens, read in one forward that gives the logits of the last
one, as `generate` does, and tokens are then taken greedily. Below the local branch both compute the same: what
Λ-attention costs there is the ratio of runs in pairs, in one process. On CUDA, Λ-attention is measured a second time
with each decoding step as one CUDA graph (models/decode_graph.py).
"""

import copy
import sys
from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring.arguments import (
    add_benchmark_arguments,
    add_branch_arguments,
    add_budget_argument,
    add_by_device,
    benchmark_parser,
)
from benchmarks.measuring.children import Case, add_case_argument, answer, measure_case
from benchmarks.measuring.machine import save_results
from benchmarks.measuring.memory import MIB, PeakMemory
from benchmarks.measuring.model_reading import LABELS, RANDOM_7B, check_model, load, read_and_generate
from benchmarks.measuring.timing import Timing
from models.lambda_attention import LambdaConfig
from models.loading.sample import SAMPLE_MODEL
from models.model_base import convert_model
from utils.arguments import whole_number
from utils.program import run_main
from utils.text_tables import Row, as_text

MODELS = {"cpu": [SAMPLE_MODEL], "cuda": [RANDOM_7B, SAMPLE_MODEL]}
DTYPES = {"cpu": ["float32"], "cuda": ["bfloat16"]}
LENGTHS = {"cpu": [8192, 16_384], "cuda": [32_768, 131_072]}
LOCAL_BRANCH = {"cpu": 2048, "cuda": 4096}
BUDGET = {"cpu": 30.0, "cuda": 10.0}
OVERHEAD_REPEATS = {"cpu": 5, "cuda": 9}
WARM_UP = {"cpu": 600, "cuda": 2**20}
"""Tokens at most of the run that is not measured: on a GPU as many as are measured, for kernels are made for them."""
VANILLA, OURS, GRAPH = "vanilla", "Λ-attention", "Λ-attention, CUDA graph"
METHODS = {"cpu": (VANILLA, OURS), "cuda": (VANILLA, OURS, GRAPH)}
OVERHEAD_LENGTH = 2048
PAPER = {"tokens_per_second": 2.7, "memory_mib": 7.5}
"""Factors by which the paper finds LM-Infinite better (arXiv 2308.16137): decoding and memory at 32K tokens."""
QUANTITIES = {
    "prefill_seconds": "seconds to the first token",
    "tokens_per_second": "tokens/s after it",
    "memory_mib": "peak memory beyond the weights, MiB",
    "cache_mib": "cache, MiB",
}


def measure_method(case: Case) -> Case:
    """One method at one length, in this process: what a row of the results has beyond its place."""
    model, length, tokens = load(case["model"], case["dtype"], case["device"]), case["length"], case["tokens"]
    if case["method"] != VANILLA:
        convert_model(model, LambdaConfig.from_dict(case["lambda_attention"]))
    read = partial(read_and_generate, model, graph=case["method"] == GRAPH)
    read(min(length, WARM_UP[case["device"]]), 2)
    memory = PeakMemory(case["device"])
    before = memory.start()
    readings = [read(length, tokens)]
    peak = memory.peak()
    seconds = readings[0].prefill + readings[0].decode
    readings += [read(length, tokens) for _ in range(min(case["repeats"], int(case["budget"] // seconds)) - 1)]
    return {
        "prefill_seconds": Timing.of([reading.prefill for reading in readings]).to_dict(),
        "tokens_per_second": Timing.of([tokens / reading.decode for reading in readings]).to_dict(),
        "memory_mib": (peak - before) / MIB,
        "peak_in_all_mib": peak / MIB,
        "cache_mib": readings[0].cache / MIB,
    }


def measure_overhead(case: Case) -> Case:
    """Λ-attention over vanilla below the local branch, as ratios of runs that follow each other; the order turns."""
    vanilla = load(case["model"], case["dtype"], case["device"])
    shared = {id(parameter): parameter for parameter in vanilla.parameters()}
    ours = convert_model(copy.deepcopy(vanilla, shared), LambdaConfig.from_dict(case["lambda_attention"]))
    pairs = []
    for number in range(case["repeats"] + 1):
        models = (vanilla, ours) if number % 2 else (ours, vanilla)
        readings = {id(model): read_and_generate(model, case["length"], case["tokens"]) for model in models}
        pairs.append((readings[id(vanilla)], readings[id(ours)]))
    del pairs[0]  # the warm-up
    found: Case = {"panel": case["panel"], "length": case["length"]}
    for name in ("prefill", "decode"):
        seconds = [(getattr(before, name), getattr(after, name)) for before, after in pairs]
        found[name] = Timing.of([after / before for before, after in seconds]).to_dict()
        found[f"vanilla_{name}_seconds"] = Timing.of([before for before, _ in seconds]).to_dict()
    return found


def measure_all(arguments: Namespace, rows: list[Case], overheads: list[Case]) -> Iterator[None]:
    """Adds to the rows of the results and to the overheads, one at a time."""
    for case in _models_and_dtypes(arguments):
        for length in arguments.lengths:
            for method in METHODS[arguments.device]:
                found = measure_case(__file__, measure_method, {**case, "method": method, "length": length})
                if found is None:
                    print(f"{case['panel']}, {length:,} tokens, {method}: there is not enough memory", flush=True)
                    continue
                rows.append({"panel": case["panel"], "method": method, "length": length, **found})
                print("  ".join(_cells(rows[-1])), flush=True)
                yield
        length = max(2, min(OVERHEAD_LENGTH, arguments.local_branch - arguments.tokens))
        case = {**case, "length": length, "repeats": arguments.overhead_repeats, "method": None}
        overhead = measure_case(__file__, measure_overhead, case)
        if overhead is not None:
            overheads.append(overhead)
            yield


def _models_and_dtypes(arguments: Namespace) -> list[Case]:
    """Settings that the cases of a panel have in common."""
    config = LambdaConfig(arguments.local_branch, arguments.global_branch, arguments.limit_distance)
    settings = {name: getattr(arguments, name) for name in ("device", "tokens", "repeats", "budget")}
    return [
        {
            "panel": f"{LABELS.get(model, Path(model).name)}, {dtype}",
            "model": model,
            "dtype": dtype,
            "lambda_attention": config.to_dict(),
            **settings,
        }
        for model in arguments.model
        for dtype in arguments.dtypes
    ]


def ratios(rows: list[Case]) -> list[Case]:
    """Factors by which each method is better than vanilla, where both were measured; None is not known."""
    found = []
    vanilla = {(row["panel"], row["length"]): row for row in rows if row["method"] == VANILLA}
    for row in rows:
        other = vanilla.get((row["panel"], row["length"]))
        if other is not None and row is not other:
            better = {name: _times(other[name], row[name]) for name in QUANTITIES}
            better["tokens_per_second"] = _times(row["tokens_per_second"], other["tokens_per_second"])
            found.append({"panel": row["panel"], "method": row["method"], "length": row["length"], **better})
    return found


def _times(one: Any, other: Any) -> float | None:
    """One number or median over another."""
    numerator, denominator = (value["median"] if isinstance(value, dict) else value for value in (one, other))
    return numerator / denominator if numerator > 0 and denominator > 0 else None


def _cells(row: Case) -> Row:
    seconds, speed = row["prefill_seconds"]["median"], row["tokens_per_second"]["median"]
    memory = [f"{row[name]:,.0f}" for name in ("memory_mib", "cache_mib", "peak_in_all_mib")]
    return [row["panel"], f"{row['length']:,}", row["method"], f"{seconds:.2f}", f"{speed:.1f}", *memory]


def table(rows: list[Case], better: list[Case]) -> str:
    """The rows, then the ratios beside the paper's."""
    head = ["model", "tokens", "method", "to first token s", "tokens/s", "beyond weights MiB", "cache MiB", "peak MiB"]
    lines: list[Row | str] = [head, "", *map(_cells, rows), "times better than vanilla"]
    for ratio in [*better, {"panel": "the paper", "method": "LM-Infinite", "length": 32_768, **PAPER}]:
        numbers = (ratio.get(name) for name in QUANTITIES)
        shown = ["-" if number is None else f"{number:.2f}x" for number in numbers]
        lines.append([ratio["panel"], f"{ratio['length']:,}", ratio["method"], *shown, ""])
    return as_text(lines)


def overhead_lines(overheads: list[Case]) -> str:
    """The overhead in words, a line for each model."""
    lines = []
    for overhead in overheads:
        parts = [
            f"{name} {100 * (ratio['median'] - 1):+.1f} % ({100 * (ratio['low'] - 1):+.1f} to "
            f"{100 * (ratio['high'] - 1):+.1f} over {ratio['repeats']} pairs)"
            for name, ratio in ((name, overhead[name]) for name in ("prefill", "decode"))
        ]
        lines.append(f"{overhead['panel']}, {overhead['length']:,} tokens, time over vanilla: {', '.join(parts)}")
    return "\n".join(lines)


def results_of(arguments: Namespace, rows: list[Case], overheads: list[Case]) -> Case:
    """Results to save."""
    return {
        "title": "A whole model: prefill and decode",
        "quantities": QUANTITIES,
        "rows": rows,
        "times_better": ratios(rows),
        "overhead": {"tokens": arguments.tokens, "cases": overheads},
        "lambda_attention": {
            name: getattr(arguments, name) for name in ("local_branch", "global_branch", "limit_distance")
        },
    }


def parse_arguments() -> Namespace:
    parser = benchmark_parser(__doc__)
    add_by_device(
        parser,
        "--model",
        MODELS,
        nargs="+",
        metavar="NAME",
        help=f"models as scripts take them, and {RANDOM_7B}: random weights of its shape, on a GPU",
    )
    add_benchmark_arguments(parser, LENGTHS, DTYPES, repeats=3)
    add_budget_argument(parser, BUDGET)
    parser.add_argument(
        "--tokens",
        type=whole_number(1),
        default=32,
        metavar="N",
        help="generated after the first one (default: %(default)s)",
    )
    add_by_device(
        parser,
        "--overhead_repeats",
        OVERHEAD_REPEATS,
        type=whole_number(1),
        metavar="N",
        help="pairs of runs below the local branch",
    )
    add_branch_arguments(parser, LOCAL_BRANCH, global_branch=10)
    add_case_argument(parser)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if arguments.case:
        answer(measure_method if arguments.case["method"] else measure_overhead, arguments.case)
        return
    for model in arguments.model:
        check_model(model, arguments.device)
    rows, overheads = [], []
    for _ in measure_all(arguments, rows, overheads):
        path = save_results(arguments.out, "model_speed", arguments.device, results_of(arguments, rows, overheads))
    print(f"\n{table(rows, ratios(rows))}\n{overhead_lines(overheads)}")
    print(f"wrote {path}" if rows or overheads else "nothing was measured")


if __name__ == "__main__":
    run_main(main)
