"""How far numbers are from what they should be, beside a bound."""

from torch import Tensor

from benchmarks.gpu_parts.case import Found


def errors(found: Tensor, expected: Tensor, bound: float) -> Found:
    """The errors of `found` as shares of `expected`: of its largest number, and of its root mean square.

    A NaN is beyond every bound.
    """
    difference = found.double().cpu() - expected.double().cpu()
    largest = float(difference.abs().max() / expected.abs().max())
    mean = float(difference.square().mean().sqrt() / expected.double().square().mean().sqrt())
    return {"largest_error": largest, "mean_error": mean, "bound": bound, "passed": largest <= bound}
