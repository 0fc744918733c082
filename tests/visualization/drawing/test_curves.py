"""Binning and smoothing against plain loops."""

import numpy as np
import pytest

from utils.trials.nll_by_position import window_sums
from visualization.drawing.curves import bin_edges, position_curve


def arrays_of(documents):
    """count, sum, sum_squares of documents whose i-th value is the NLL at position i + 1."""
    length = 1 + max(len(document) for document in documents)
    arrays = {name: np.zeros(length) for name in ("sum", "sum_squares")}
    arrays["count"] = np.zeros(length, dtype=np.int64)
    for document in documents:
        for index, value in enumerate(document):
            arrays["count"][index + 1] += 1
            arrays["sum"][index + 1] += value
            arrays["sum_squares"][index + 1] += value**2
    return arrays


def random_documents(lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.gamma(1.0, 3.0, length) for length in lengths]


def plain_smoothing(documents, width):
    """Mean, number and pooled deviation of the tokens in a centred window, position by position."""
    last = max(len(document) for document in documents)
    rows = []
    for position in range(1, last + 1):
        reach = min((width - 1) // 2, position - 1)
        window = range(position - reach, min(position + reach, last) + 1)
        columns = [[document[p - 1] for document in documents if len(document) >= p] for p in window]
        tokens = [value for column in columns for value in column]
        squares = sum(np.sum((np.array(column) - np.mean(column)) ** 2) for column in columns)
        freedom = sum(len(column) - 1 for column in columns)
        here = sum(len(document) >= position for document in documents)
        deviation = np.sqrt(squares / freedom) if here > 1 else np.nan
        rows.append((np.mean(tokens), len(tokens), deviation, here))
    return [np.array(column) for column in zip(*rows)]


@pytest.mark.parametrize("width", [1, 2, 3, 7, 8, 31, 1000])
@pytest.mark.parametrize("lengths", [[1], [2], [40], [40, 17, 3], [40, 40]])
def test_smoothing_is_the_centred_mean_weighted_by_count(lengths, width):
    documents = random_documents(lengths)
    curve = position_curve(arrays_of(documents), smoothing=width)
    mean, tokens, deviation, here = plain_smoothing(documents, width)
    np.testing.assert_array_equal(curve.position, np.arange(1, max(lengths) + 1))
    np.testing.assert_allclose(curve.mean, mean, rtol=1e-12)
    np.testing.assert_array_equal(curve.tokens, tokens)
    np.testing.assert_array_equal(curve.texts, here)
    np.testing.assert_allclose(curve.deviation, deviation, rtol=1e-9)
    np.testing.assert_allclose(curve.standard_error, deviation / np.sqrt(tokens), rtol=1e-9)


@pytest.mark.parametrize("scale", ["linear", "log"])
@pytest.mark.parametrize("smoothing", [1, 16, 300])
def test_a_constant_stays_constant(scale, smoothing):
    documents = [np.full(length, 3.2) for length in (5000, 900, 20)]
    curve = position_curve(arrays_of(documents), smoothing=smoothing, scale=scale, max_points=200)
    np.testing.assert_allclose(curve.mean, 3.2, rtol=1e-12)
    np.testing.assert_allclose(curve.deviation[curve.texts > 1], 0, atol=1e-5)


def test_the_start_of_a_slope_is_not_pulled():
    slope = 9 - 0.01 * np.arange(400)
    curve = position_curve(arrays_of([slope, slope]), smoothing=101)
    np.testing.assert_allclose(curve.mean[:-50], slope[:-50], rtol=1e-12)


@pytest.mark.parametrize("scale", ["linear", "log"])
@pytest.mark.parametrize("length", [1, 2, 99, 100, 101, 4321])
def test_bins_keep_every_token(scale, length):
    arrays = arrays_of(random_documents([length, length // 2]))
    curve = position_curve(arrays, scale=scale, max_points=100)
    assert len(curve.position) <= 100
    assert curve.tokens.sum() == arrays["count"].sum()
    np.testing.assert_allclose(np.sum(curve.mean * curve.tokens), arrays["sum"].sum(), rtol=1e-12)
    mean_position = np.sum(np.arange(length + 1) * arrays["count"]) / arrays["count"].sum()
    np.testing.assert_allclose(np.sum(curve.position * curve.tokens) / curve.tokens.sum(), mean_position)


@pytest.mark.parametrize("scale", ["linear", "log"])
@pytest.mark.parametrize("length", [1, 2, 3, 999, 1000, 1001, 10**6])
def test_edges_cover_all_positions_once(scale, length):
    edges = bin_edges(length, scale, 1000)
    assert edges[0] == 0 and edges[-1] == length
    assert np.all(np.diff(edges) > 0) and len(edges) <= 1001


def test_linear_bins_are_even_and_log_bins_grow():
    widths = np.diff(bin_edges(10**6, "linear", 1000))
    assert widths.min() == widths.max() == 1000
    widths = np.diff(bin_edges(10**6, "log", 1000))
    assert widths[0] == 1 and widths[-1] > 10_000


def test_window_sums():
    starts, ends = np.array([0, 1, 2]), np.array([3, 1, 4])
    np.testing.assert_array_equal(window_sums(np.array([1, 2, 3, 4]), starts, ends), [6, 0, 7])
    np.testing.assert_array_equal(window_sums(np.array([[1, 2, 3, 4], [5, 6, 7, 8]]), starts, ends)[1], [18, 0, 15])
