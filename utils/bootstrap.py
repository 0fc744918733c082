"""Standard errors and intervals: how much a number varies over samples of as many examples.

Of means by their formula, of other numbers by the bootstrap (Efron, 1979), both with n - 1 for n examples. A proportion
has Wilson's interval (1927) besides: where all examples are right, the standard error is 0 and says nothing.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

RESAMPLES = 1000
SEED = 0
NORMAL_95 = 1.959963984540054
"""Standard deviations around the mean that hold 95 % of a normal distribution."""


def standard_error(sums: np.ndarray, statistic: Callable[[np.ndarray], float]) -> float | None:
    """The standard deviation of `statistic` over RESAMPLES samples of the examples, drawn with replacement.

    sums: [examples, k], what each example adds to the k sums that `statistic` is computed from. None where there are
    fewer than two examples. The draws are seeded: the same examples in the same order give the same number.
    """
    examples = len(sums)
    if examples < 2:
        return None
    generator = np.random.default_rng(SEED)
    drawn = (generator.integers(examples, size=examples) for _ in range(RESAMPLES))
    deviation = np.std([statistic(sums[rows].sum(axis=0)) for rows in drawn], ddof=1)
    return float(deviation) * math.sqrt(examples / (examples - 1))  # samples of a sample vary less by that much


def weighted_mean(values: Sequence[float], weights: Sequence[float] | None = None) -> tuple[float | None, float | None]:
    """The mean of one value per example and its standard error; None for each that has too few examples.

    weights: of the examples; None counts all alike, and takes the formula instead of the bootstrap.
    """
    if not values:
        return None, None
    if weights is None:
        error = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None
        return float(np.mean(values)), error
    weighted = np.array([values, weights], dtype=np.float64).T
    weighted[:, 0] *= weighted[:, 1]
    return _ratio(weighted.sum(axis=0)), standard_error(weighted, _ratio)


def proportion_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Wilson's 95 % interval of the mean of values that are all 0 or 1; None for other values, or none."""
    if not values or any(value not in (0, 1) for value in values):
        return None
    count, share, square = len(values), sum(values) / len(values), NORMAL_95**2
    center = (share + square / (2 * count)) / (1 + square / count)
    reach = math.sqrt(share * (1 - share) / count + square / (4 * count**2)) * NORMAL_95 / (1 + square / count)
    return max(0.0, center - reach), min(1.0, center + reach)


def _ratio(sums: np.ndarray) -> float:
    return float(sums[0] / sums[1])
