"""How fast is an endless stream read, in chunks and, as StreamingLLM's evaluation does, one token at a time?

python benchmarks/streaming_speed.py [--device cuda] [--model smollm2] [--length 32768] [--single_length 1024]

Both are scripts/eval_infinite_ppl.py itself with Λ-attention, on the same stream; only --max_length differs. On the CPU
each is a process of its own, on CUDA both are this one. What is told is the time from chunk to chunk, reading and
scoring, without checkpoints. One at a time fewer tokens are read: where they do not fill the window, its keys are fewer
than later on, which is to its advantage.
"""

import json
import os
import runpy
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring.arguments import DTYPES, add_branch_arguments, add_by_device, benchmark_parser
from benchmarks.measuring.children import Case, attempt, release_case, run_child
from benchmarks.measuring.machine import save_results
from benchmarks.measuring.model_reading import LABELS
from models.loading.sample import SAMPLE_MODEL
from utils.arguments import whole_number
from utils.errors import UserError
from utils.program import run_main
from utils.text_tables import Row, as_text
from utils.trials.files import SAMPLES
from utils.trials.methods import NO_CAP

ROOT = Path(__file__).resolve().parents[1]
EVALUATION = "scripts/eval_infinite_ppl.py"
LENGTH = {"cpu": 16_384, "cuda": 262_144}
SINGLE_LENGTH = {"cpu": 512, "cuda": 1024}
STREAM_DTYPES = {"cpu": ["float32"], "cuda": ["bfloat16"]}
LOCAL_BRANCH = {"cpu": 2048, "cuda": 2048}
ONE_AT_A_TIME = "one token at a time"
MOST_ROWS = 16
NEVER = 10**9
"""Chunks between two checkpoints."""
SPEED = "tokens_per_second"


def read_stream(arguments: Namespace, dtype: str, length: int, chunk: int) -> list[Case]:
    """Read the stream; a line for each chunk, as samples.jsonl has them."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["--model", arguments.model, "--dtype", dtype]
        words += ["--dataset", arguments.dataset, "--streaming_length", length, "--max_length", chunk]
        words += ["--use_lambda_attention", "--local_branch", arguments.local_branch]
        words += ["--global_branch", arguments.global_branch]
        words += ["--limit_distance", NO_CAP if arguments.limit_distance is None else arguments.limit_distance]
        words += ["--save_steps", NEVER, "--log_dir", folder]
        evaluate = _evaluate_apart if arguments.device == "cpu" else _evaluate_here
        if not evaluate([str(word) for word in words]):
            raise UserError(f"memory ran out over chunks of {chunk:,} tokens: give a smaller --chunk or --local_branch")
        return [json.loads(text) for text in (Path(folder) / SAMPLES).read_text().splitlines()]


def _evaluate_apart(words: list[str]) -> bool:
    """The evaluation on the CPU in a process of its own; False where memory ran out."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return not run_child([sys.executable, EVALUATION, *words], cwd=ROOT, env=environment).returncode


def _evaluate_here(words: list[str]) -> bool:
    """The evaluation in this process, quietly, on a GPU: a process more is half a minute of imports, and kernels."""
    main, own_words = runpy.run_path(str(ROOT / EVALUATION), run_name="evaluation")["main"], sys.argv
    sys.argv = [EVALUATION, *words]
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            done = attempt(_done, main)
    finally:
        sys.argv = own_words
    release_case()
    return done is not None


def _done(main: Callable[[], None]) -> bool:
    main()
    return True


def speeds(chunks: list[Case], most: int = MOST_ROWS) -> list[tuple[int, float]]:
    """Position in the stream and tokens/s since the position before it, at most so many."""
    at_once = -(-len(chunks) // most)
    found, before = [], 0
    for first in range(0, len(chunks), at_once):
        group = chunks[first : first + at_once]
        end = group[-1]["end"]
        found.append((end, (end - before) / sum(chunk["seconds"] for chunk in group)))
        before = end
    return found


def rows_of(panel: str, method: str, chunks: list[Case]) -> list[Case]:
    return [{"panel": panel, "method": method, "length": end, SPEED: speed} for end, speed in speeds(chunks)]


def measure(arguments: Namespace, rows: list[Case]) -> Iterator[None]:
    """Adds the rows of both ways to read, for each precision, way by way."""
    ways = {f"chunks of {arguments.chunk:,}": (arguments.length, arguments.chunk)}
    ways[ONE_AT_A_TIME] = (arguments.single_length, 1)
    for dtype in arguments.dtypes:
        panel = f"{LABELS.get(arguments.model, Path(arguments.model).name)}, {dtype}"
        for method, (length, chunk) in ways.items():
            rows += rows_of(panel, method, read_stream(arguments, dtype, length, chunk))
            print(f"{panel}, {method}: {settled(rows, panel, method):,.1f} tokens/s", flush=True)
            yield


def settled(rows: list[Case], panel: str, method: str) -> float:
    """The median speed, the first one left out, which has the warm-up, unless it is the only one."""
    found = [row[SPEED] for row in rows if (row["panel"], row["method"]) == (panel, method)]
    return median(found[1:] or found)


def table(rows: list[Case]) -> str:
    lines: list[Row | str] = [["model", "read in", "up to token", "tokens/s"], ""]
    lines += [[row["panel"], row["method"], f"{row['length']:,}", f"{row[SPEED]:,.1f}"] for row in rows]
    return as_text(lines)


def times_faster(rows: list[Case]) -> dict[str, float]:
    """Factors by which chunks are read faster than single tokens, by panel where both were measured."""
    methods = {(row["panel"], row["method"]) for row in rows}
    return {
        panel: settled(rows, panel, method) / settled(rows, panel, ONE_AT_A_TIME)
        for panel, method in sorted(methods)
        if method != ONE_AT_A_TIME and (panel, ONE_AT_A_TIME) in methods
    }


def results_of(arguments: Namespace, rows: list[Case]) -> Case:
    """Results to save."""
    return {
        "title": "Reading a stream for its perplexity",
        "quantities": {SPEED: "tokens/s"},
        "rows": rows,
        "times_faster_in_chunks": times_faster(rows),
        "lambda_attention": {
            name: getattr(arguments, name) for name in ("local_branch", "global_branch", "limit_distance")
        },
    }


def parse_arguments() -> Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument(
        "--model", default=SAMPLE_MODEL, metavar="NAME", help="as scripts take it (default: %(default)s)"
    )
    parser.add_argument("--dataset", default="plays", metavar="NAME", help="as scripts take it (default: %(default)s)")
    add_by_device(parser, "--dtypes", STREAM_DTYPES, nargs="+", choices=DTYPES, help="precisions to measure")
    lengths = {"--length": (LENGTH, "in chunks"), "--single_length": (SINGLE_LENGTH, "one at a time")}
    for flag, (defaults, what) in lengths.items():
        add_by_device(parser, flag, defaults, type=whole_number(2), metavar="TOKENS", help=f"tokens to read {what}")
    parser.add_argument(
        "--chunk", type=whole_number(2), default=4096, metavar="TOKENS", help="tokens in a chunk (default: %(default)s)"
    )
    add_branch_arguments(parser, LOCAL_BRANCH, global_branch=10)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    rows = []
    for _ in measure(arguments, rows):
        path = save_results(arguments.out, "streaming_speed", arguments.device, results_of(arguments, rows))
    faster = times_faster(rows)
    print(f"\n{table(rows)}")
    for panel, times in faster.items():
        print(f"{panel}: {times:.1f} times as fast in chunks of {arguments.chunk:,} as one token at a time")
    print(f"wrote {path}")


if __name__ == "__main__":
    run_main(main)
