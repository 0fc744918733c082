"""A case: one thing that is measured, by a name of its own within its part."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu_parts.sizes import Plan

Found = dict[str, Any]
"""What a case found, as JSON. "passed": whether a bound was kept, where there is one."""
MEASURED, FAILED, REFUSED, NOT_REACHED, RUNNING = "measured", "failed", "refused", "not reached", "running"
"""States of a case: it gave numbers; it raised; it cannot be, and why is told; no time was left; it is under way."""


@dataclass(frozen=True)
class Case:
    """seconds: about how long it takes, compiling included: it is not begun where less time is left."""

    name: str
    seconds: float
    measure: Callable[[], Found]


@dataclass(frozen=True)
class Part:
    """cases: in the order in which they count. share: of the time in all, before parts that follow have had theirs."""

    name: str
    question: str
    share: float
    cases: Callable[[Plan], Iterator[Case]]
