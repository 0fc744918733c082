"""Standard errors by the bootstrap (Efron, 1979): how much a number varies over samples of the same examples."""

from collections.abc import Callable

import numpy as np

RESAMPLES = 1000
SEED = 0


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
    return float(np.std([statistic(sums[rows].sum(axis=0)) for rows in drawn], ddof=1))


def weighted_mean(values: list[float], weights: list[float] | None = None) -> tuple[float | None, float | None]:
    """The mean of one value per example and its standard error; weights default to 1. (None, None) without examples."""
    if not values:
        return None, None
    weighted = np.array([values, weights or [1.0] * len(values)], dtype=np.float64).T
    weighted[:, 0] *= weighted[:, 1]
    return _ratio(weighted.sum(axis=0)), standard_error(weighted, _ratio)


def _ratio(sums: np.ndarray) -> float:
    return float(sums[0] / sums[1])
