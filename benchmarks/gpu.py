"""Everything that is measured on a GPU, in one process and within --minutes, most valuable first.

python benchmarks/gpu.py [--minutes 8] [--out FILE] [--parts layer stream] [--again] [--device cpu --tiny]

Weights and texts are random: it needs torch, Transformers and einops, and no file, no network and no other package.
The parts are: correctness of each backend and of the captured decoding step; layer, one layer of attention beside dense
attention, in TFLOP/s; stream, an endless text at SmolLM2-135M's shape; large_model, Llama-2-7B's shape beside vanilla;
growth, time per token and memory by length.

The JSON is written after each case. The same command again goes on where one was stopped: what is in the file, of the
same code, card and torch, is not measured again. A case that fails is noted with its error and the rest goes on; a case
for which no time is left is noted as not reached. Exit status: 0, or 1 where a case failed or went beyond its bound.
"""

import os
import sys
import time

BEGUN = time.monotonic()  # importing takes part of the minutes
os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read when torch is imported: its profiler tells each start

import argparse
import gc
import threading
from argparse import Namespace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.arguments import HarnessParser, finite_number
from utils.errors import UserError
from utils.program import run_main

PARTS = ("correctness", "layer", "stream", "large_model", "growth")
MARGIN = 5.0
"""Seconds between the end of the last case and that of the process."""
LEAST_MINUTES = 0.2


def minutes(text: str) -> float:
    value = finite_number(text)
    if value < LEAST_MINUTES:
        raise argparse.ArgumentTypeError(f"must be at least {LEAST_MINUTES} minutes, not {text}")
    return value


def parse_arguments() -> Namespace:
    parser = HarnessParser(__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="what to measure (default: cuda)")
    parser.add_argument("--tiny", action="store_true", help="sizes so small that a CPU takes seconds: to try it out")
    parser.add_argument(
        "--minutes", type=minutes, default=8.0, help="the process ends after so many (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="(default: logs/benchmarks/gpu_CARD.json)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="those named (default: all)")
    parser.add_argument("--again", action="store_true", help="measure anew what --out has of these parts")
    return parser.parse_args()


def check_machine(arguments: Namespace) -> None:
    """Raises UserError for a device that is not here, for sizes that a CPU cannot do, and without the packages."""
    try:
        import einops  # noqa: F401
        import torch
        import transformers  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(
            f"there is no package {error.name} here: install it; where there is no network, put its folder beside "
            "benchmarks/, if it is einops, which is Python alone"
        ) from None
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: there is no CUDA device here; --device cpu --tiny tries it out without one")
    if arguments.device == "cpu" and not arguments.tiny:
        raise UserError("--device cpu needs --tiny: the sizes of a GPU are too large for a CPU")


def main() -> None:
    arguments = parse_arguments()
    seconds = 60 * arguments.minutes
    end = threading.Timer(BEGUN + seconds - time.monotonic(), _end)
    end.daemon = True
    end.start()
    check_machine(arguments)
    # torch and Transformers take seconds to import: not for a wrong flag
    from benchmarks.gpu_parts.every import PARTS as EVERY
    from benchmarks.gpu_parts.report import Report, default_path
    from benchmarks.gpu_parts.running import Deadline, LostDeviceError, run_parts
    from benchmarks.gpu_parts.sizes import FULL, TINY, Plan
    from benchmarks.gpu_parts.summary import failures, summarise

    gc.freeze()  # what was imported: between cases only their own garbage is looked for
    plan = Plan(arguments.device, TINY if arguments.tiny else FULL)
    again = tuple(arguments.parts) if arguments.again else ()
    report = Report(arguments.out or default_path(plan), plan, again)
    if report.replaced:
        print(f"what was there is of other code or another machine: it is {report.replaced} now", flush=True)
    parts = [part for part in EVERY if part.name in arguments.parts]
    try:
        run_parts(parts, plan, report, Deadline(BEGUN, seconds - MARGIN), _say)
    except LostDeviceError:
        _go_on_in_another_process(arguments, report.path)
    print(f"\n{summarise(report, plan)}\nwrote {report.path}")
    sys.exit(1 if failures(report) else 0)


def _say(line: str) -> None:
    print(line, flush=True)


def _end() -> None:
    """The deadline, whatever is under way then: what was measured is on disk, and the rest is left to another call."""
    _say("the time is up: what was measured is on disk, and the same command goes on from there")
    os._exit(0)


def _go_on_in_another_process(arguments: Namespace, path: Path) -> None:
    """Begin anew, as the same process, with the time that is left: after some errors a GPU computes no more in one."""
    left = arguments.minutes - (time.monotonic() - BEGUN) / 60
    if left < LEAST_MINUTES:
        _end()
    _say("the device computes no more in this process: going on in another one")
    words = ["--device", arguments.device, "--minutes", f"{left:.3f}", "--out", str(path), "--parts", *arguments.parts]
    os.execv(sys.executable, [sys.executable, __file__, *words, *(["--tiny"] if arguments.tiny else [])])


if __name__ == "__main__":
    run_main(main, tuned=False)  # alternatives are measured as torch runs them by default
