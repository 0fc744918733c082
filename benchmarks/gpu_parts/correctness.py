"""Part 1: is what each backend computes on this device what blockwise computes in float32?

The reference is computed on the CPU, on the same inputs: it has nothing in common with the device that is held against
it. Errors are shares of the largest number of the reference (`largest_error`) and of its root mean square
(`mean_error`, itself a root mean square).
"""

from collections.abc import Iterator
from functools import lru_cache, partial
from itertools import islice

import torch
from torch import Tensor

from benchmarks.gpu_parts.captured_steps import step_cases
from benchmarks.gpu_parts.case import Case, Found, Part
from benchmarks.gpu_parts.errors import errors
from benchmarks.gpu_parts.scenarios import Scenario, scenarios
from benchmarks.gpu_parts.sizes import Plan
from models.attention.settings import ON_GPU

REFERENCE = "blockwise"
EXACT, ROUNDED, ROUNDED_ALIBI = 1e-5, 0.05, 0.02
"""Bounds of `largest_error`, in float32 and in bfloat16. Where a window, a limit or a beginning has a token too many or
too few, errors are 0.2 and more; with ALiBi, whose biases leave less to single keys, 0.03 where it is the window."""
SECONDS, SECONDS_TO_COMPILE = 4.0, 15.0


def cases(plan: Plan) -> Iterator[Case]:
    """Each scenario with each backend, in bfloat16 and, where that is worth a kernel more, in float32."""
    dtypes = [torch.bfloat16, torch.float32]
    for scenario in islice(scenarios(plan.sizes.window, plan.sizes.long_prompt), plan.sizes.scenarios):
        for dtype in dtypes if scenario.exact else dtypes[:1]:
            for backend in ON_GPU:
                name = f"{scenario.name}, {_name(dtype)}, {backend}"
                yield Case(name, _seconds(plan), partial(compare, scenario, backend, dtype, plan.device))
    yield from step_cases(plan)


def _seconds(plan: Plan) -> float:
    return SECONDS_TO_COMPILE if plan.device == "cuda" else SECONDS


@torch.no_grad()
def compare(scenario: Scenario, backend: str, dtype: torch.dtype, device: str) -> Found:
    """The errors of a backend, beside the bound that they keep or not."""
    output = scenario.read(scenario.tensors(dtype), backend, device, dtype)
    rounded = ROUNDED_ALIBI if scenario.alibi else ROUNDED
    return errors(output, _reference(scenario, dtype), EXACT if dtype == torch.float32 else rounded)


@lru_cache(maxsize=1)
def _reference(scenario: Scenario, dtype: torch.dtype) -> Tensor:
    """The same for all backends, which come one after the other. float32, on inputs that are rounded to `dtype`."""
    return scenario.read(scenario.tensors(dtype), REFERENCE, "cpu", torch.float32)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


PART = Part(
    name="correctness",
    question="Does each backend compute what blockwise does, and the captured step what an ordinary one does?",
    share=0.3,
    cases=cases,
)
