"""Measurements in processes of their own on the CPU: each has its memory, and its share of a noisy machine, to itself.

On a GPU all are one process, where torch counts the memory of each: another process is half a minute of imports.
"""

import argparse
import gc
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from models.attention.prefill import measured
from utils.arguments import HarnessParser
from utils.errors import UserError
from utils.program import USER_ERROR_STATUS
from utils.ranks.runtime import is_out_of_memory

Found = TypeVar("Found")
Case = dict[str, Any]
"""A case to measure, or its outcome, as JSON."""


def add_case_argument(parser: HarnessParser) -> None:
    """--case, by which `measure_apart` starts a script again."""
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)


def measure_case(script: str, measure: Callable[[Case], Case], case: Case) -> Case | None:
    """`measure` of a case, which has its "device"; None where memory ran out.

    On the CPU in a process of its own, as `measure_apart` does; on a GPU here, with none of its memory kept.
    """
    if case["device"] == "cpu":
        return measure_apart(script, case)
    found = attempt(measure, case)
    release_case()
    return found


def release_case() -> None:
    """Give a GPU's memory back that a case of this process has used, for the next to have it."""
    gc.collect()
    torch.cuda.empty_cache()


def measure_apart(script: str, case: Case, **options: Any) -> Case | None:
    """Measure the case by `answer` of that script, in a process of its own; None where memory ran out.

    The backends that it chooses are then known here too, for the results. options: as `run_child` takes them.
    """
    run = run_child([sys.executable, script, "--case", json.dumps(case)], **options)
    if run.returncode == -signal.SIGKILL:  # as Linux ends a process when no memory is left
        return None
    found, choices = json.loads(run.stdout.splitlines()[-1])
    measured.agree(choices)
    return found


def run_child(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess:
    """Run a script of this repository to its end, quietly. options: further ones of subprocess.run.

    Its UserError is raised here; a traceback of it is shown. Only a kill is left to the caller.
    """
    run = subprocess.run(command, capture_output=True, text=True, **options)
    if run.returncode == USER_ERROR_STATUS:
        raise UserError(run.stderr.splitlines()[-1].removeprefix("error: "))
    if run.returncode not in (0, -signal.SIGKILL):
        sys.stderr.write(run.stderr)
        run.check_returncode()
    return run


def answer(measure: Callable[[Case], Case], case: Case) -> None:
    """The child's side: print what `measure` finds as the last line, and which backends it has chosen."""
    print(json.dumps([attempt(measure, case), measured.found()]))


def attempt(measure: Callable[[Any], Found], case: Any) -> Found | None:
    """Measure in this process; None where memory ran out."""
    try:
        return measure(case)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return None
