"""Standard errors against the formulas that hold for means, and Wilson's interval against its values."""

import numpy as np
import pytest

from utils.bootstrap import proportion_interval, standard_error, weighted_mean

VALUES = np.random.default_rng(3).normal(5, 2, size=400).tolist()


def test_the_standard_error_of_a_mean_is_the_deviation_over_the_root_of_the_number():
    mean, error = weighted_mean(VALUES)
    assert mean == pytest.approx(np.mean(VALUES))
    assert error == pytest.approx(np.std(VALUES, ddof=1) / 20)
    assert weighted_mean([0.0, 1.0])[1] == pytest.approx(0.5), "n - 1, not n"
    assert weighted_mean(VALUES, [2.0] * 400) == pytest.approx((mean, error), rel=0.08)


def test_the_same_examples_give_the_same_number():
    assert weighted_mean(VALUES) == weighted_mean(VALUES)


def test_weights_count_an_example_more_than_once():
    mean, error = weighted_mean([1.0, 4.0], [3.0, 1.0])
    assert mean == pytest.approx(7 / 4)
    # Of four equally likely samples two are the pair itself, the others one of the two twice.
    assert error == pytest.approx(np.std([7 / 4, 7 / 4, 1, 4]) * 2**0.5, rel=0.1)


def test_equal_examples_have_no_error_and_one_has_none_known():
    assert weighted_mean([0.5] * 9) == (0.5, 0.0)
    assert weighted_mean([0.5]) == (0.5, None)
    assert weighted_mean([]) == (None, None)


def test_any_statistic_of_sums():
    sums = np.array([[1, 0], [0, 1]] * 50)
    error = standard_error(sums, lambda totals: totals[0] / (totals[0] + totals[1]))
    assert error == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize(
    "right, wrong, low, high",
    [(6, 0, 0.6097, 1), (0, 6, 0, 0.3903), (3, 1, 0.3006, 0.9544), (8, 2, 0.4902, 0.9433), (1, 0, 0.2065, 1)],
)
def test_the_interval_of_a_proportion(right, wrong, low, high):
    """Values of the Wilson score interval without a correction for continuity, at 95 %."""
    assert proportion_interval([1.0] * right + [0.0] * wrong) == pytest.approx((low, high), abs=5e-5)


def test_what_is_no_proportion_has_no_interval():
    assert proportion_interval([0.0, 0.5, 1.0]) is None
    assert proportion_interval([]) is None
