"""Working memory of one attention layer by length, of Λ-attention and its alternatives, in processes of their own."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch

from benchmarks.alternatives.methods import METHODS, OURS, PUBLISHED
from benchmarks.measuring.children import Case, measure_case
from benchmarks.measuring.memory import MIB, PeakMemory
from benchmarks.measuring.shapes import SHAPES
from benchmarks.measuring.timing import Timing, seconds_of
from utils.text_tables import Row

SCRIPT = str(Path(__file__).resolve().parents[1] / "attention_memory.py")
"""The command that gives a case to `measure` in a process of its own."""
WARM_UP = 600


def cases(arguments: Namespace) -> list[Case]:
    """One for each shape and precision."""
    return [
        {"panel": f"{SHAPES[shape].label}, {dtype}", "shape": shape, "dtype": dtype, "device": arguments.device}
        for shape in arguments.shapes
        for dtype in arguments.dtypes
    ]


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
        print("  ".join(cells(rows[-1])), flush=True)
    return rows


def _expected_seconds(row: Case, length: int) -> float:
    """Seconds of one run at this length, from a shorter one."""
    return row["run_seconds"] * (length / row["length"]) ** METHODS[row["method"]].exponent


def _runs(case: Case, repeats: int, budget: float) -> list[Case]:
    """Several measurements of one case; none where memory ran out. On a GPU one: torch's count does not vary."""
    if case["device"] == "cuda":
        found = measure_case(SCRIPT, measure, case)
        return [found] if found else []
    runs: list[Case] = []
    while len(runs) < repeats and (not runs or (len(runs) + 1) * runs[0]["seconds"] <= budget):
        found = measure_case(SCRIPT, measure, case)
        if found is None:
            return []
        runs.append(found)
    return runs


def cells(row: Case) -> Row:
    """A line of a table, from the panel to the number of runs."""
    memory = row["memory_mib"]
    numbers = [f"{memory[name]:,.1f}" for name in ("median", "low", "high")]
    return [row["panel"], f"{row['length']:,}", row["method"], *numbers, str(memory["repeats"])]


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
