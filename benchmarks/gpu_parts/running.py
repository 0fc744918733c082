"""Cases run one after the other within a deadline, each guarded: what one raises is what it found."""

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu_parts.case import FAILED, MEASURED, REFUSED, Case, Found, Part
from benchmarks.gpu_parts.report import ROOT, Report
from benchmarks.gpu_parts.sizes import Plan
from utils.errors import UserError
from utils.ranks.runtime import is_out_of_memory

MOST_OF_A_MESSAGE = 500
Say = Callable[[str], None]


class LostDeviceError(Exception):
    """The device computes no more in this process: another one has to go on."""


@dataclass(frozen=True)
class Deadline:
    """begun, seconds: by time.monotonic; nothing is begun that would not be over in time."""

    begun: float
    seconds: float

    def left(self) -> float:
        return self.begun + self.seconds - time.monotonic()


def run_parts(parts: Sequence[Part], plan: Plan, report: Report, deadline: Deadline, say: Say) -> None:
    """Measure what the report does not have yet. Raises LostDeviceError.

    Each part has its share of the time first, so that none keeps the next from beginning; what did not fit comes after
    the last part, and what does not fit then is noted as not reached.
    """
    for shared in (True, False):
        for part in parts:
            end_of_share = time.monotonic() + part.share * deadline.seconds
            for case in part.cases(plan):
                if report.is_over(part, case):
                    continue
                left = deadline.left()
                if shared and min(left, end_of_share - time.monotonic()) < case.seconds:
                    continue
                if left < case.seconds:
                    report.not_reached(part, case, left)
                else:
                    _run(part, case, plan, report, say)


def _run(part: Part, case: Case, plan: Plan, report: Report, say: Say) -> None:
    plan.accelerator.clear()
    report.begin(part, case)
    begun = time.monotonic()
    found = guarded(case)
    found["case_seconds"] = time.monotonic() - begun
    report.put(part, case, found)
    say(f"{part.name}: {case.name}: {told(found)}")
    if found["state"] == FAILED and not plan.accelerator.works():
        raise LostDeviceError


def guarded(case: Case) -> Found:
    """What the case finds, with its state; a UserError is a reason why it cannot be, another exception a failure."""
    try:
        return {"state": MEASURED, **case.measure()}
    except UserError as error:
        return {"state": REFUSED, "why": str(error)}
    except Exception as error:
        memory = isinstance(error, RuntimeError) and is_out_of_memory(error)
        kind = "out of memory" if memory else type(error).__name__
        why = f"{kind}: {error}"[:MOST_OF_A_MESSAGE]
        return {"state": FAILED, "why": why, "where": _own_lines(error)}


def _own_lines(error: Exception) -> list[str]:
    """The lines of this repository on the way to an error."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(ROOT) and ".venv" not in frame.filename]
    return [f"{Path(frame.filename).relative_to(ROOT)}:{frame.lineno} {frame.name}" for frame in own]


def told(found: Found) -> str:
    """The outcome of a case in a line: why it has no numbers, or those that it has at the top."""
    if "why" in found:
        return f"{found['state']}: {found['why'].splitlines()[0]}"
    numbers = {name: value for name, value in found.items() if isinstance(value, float) and name != "case_seconds"}
    words = [f"{name} {value:.4g}" for name, value in numbers.items()]
    bound = {True: ["within its bound"], False: ["BEYOND ITS BOUND"]}.get(found.get("passed"), [])
    return ", ".join(words + bound)
