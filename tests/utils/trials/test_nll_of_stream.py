"""Bucket sums against a direct computation, their edges up to 10⁹, and merging streams."""

from itertools import pairwise

import numpy as np
import pytest

from utils.trials.nll_by_position import perplexity
from utils.trials.nll_of_stream import (
    LINEAR_BUCKETS,
    LOG_BUCKETS_PER_DECADE,
    TABLE_ROWS,
    StreamStatistics,
    linear_edges,
    log_edges,
    merge,
    round_bucket,
    table,
)

LENGTHS = (2, 3, 10, 999, 2000, 2001, 123_457, 10**6, 2 * 10**8, 10**9, 10**9 + 7)


def some_nll(tokens, seed=0):
    return np.random.default_rng(seed).gamma(2.0, 2.0, tokens).astype(np.float32)


def read(length, chunk, nll):
    """Statistics of a stream whose token at position i + 1 has NLL nll[i], in chunks of positions."""
    statistics = StreamStatistics(length)
    for start in range(0, length, chunk):
        first = max(start, 1)
        statistics.add(first, nll[first - 1 : start + chunk - 1])
    return statistics


@pytest.mark.parametrize("length", LENGTHS)
def test_edges_cover_every_position_once_with_a_bounded_number_of_buckets(length):
    linear, logarithmic = linear_edges(length), log_edges(length)
    for edges in (linear, logarithmic):
        assert edges.dtype == np.int64 and edges[0] == 0 and edges[-1] == length
        assert (np.diff(edges) > 0).all()
    assert len(linear) - 1 <= LINEAR_BUCKETS
    assert set(np.diff(linear)[:-1].tolist()) <= {round_bucket(length, LINEAR_BUCKETS)}
    assert len(logarithmic) - 1 <= LOG_BUCKETS_PER_DECADE * np.log10(length) + 2


def test_logarithmic_edges_are_equal_parts_of_a_decade():
    edges = log_edges(10**9)
    assert set(10 ** np.arange(9)) <= set(edges.tolist())
    far = edges[edges >= 10**4].astype(float)
    np.testing.assert_allclose(np.diff(np.log10(far)), 1 / LOG_BUCKETS_PER_DECADE, rtol=1e-3)


def test_round_sizes():
    assert [round_bucket(length, 10) for length in (1, 10, 11, 20, 21, 50, 51, 100, 101)] == [
        1,
        1,
        2,
        2,
        5,
        5,
        10,
        10,
        20,
    ]


@pytest.mark.parametrize("length, chunk", [(2, 1), (10, 3), (500, 1), (5003, 64), (5003, 5003), (5003, 10_000)])
def test_sums_are_those_of_a_direct_computation(length, chunk):
    nll = some_nll(length - 1)
    statistics = read(length, chunk, nll)
    exact, positions = nll.astype(np.float64), np.arange(1, length)
    for kind, edges in (("linear", linear_edges(length)), ("log", log_edges(length))):
        arrays, parts = statistics.arrays(), list(pairwise(edges))
        within = [(positions >= first) & (positions < last) for first, last in parts]
        assert arrays[f"{kind}_count"].tolist() == [mask.sum() for mask in within]
        np.testing.assert_allclose(arrays[f"{kind}_sum"], [exact[mask].sum() for mask in within], rtol=1e-13)
        np.testing.assert_allclose(
            arrays[f"{kind}_sum_squares"], [(exact[mask] ** 2).sum() for mask in within], rtol=1e-13
        )
        assert arrays[f"{kind}_count"].dtype == np.int64 and arrays[f"{kind}_sum"].dtype == np.float64
    assert statistics.tokens == length - 1
    assert statistics.total == pytest.approx(exact.sum(), rel=1e-12)


def test_sums_stay_exact_where_float32_would_not_count():
    statistics = StreamStatistics(10**9)
    for start in range(5 * 10**8, 5 * 10**8 + 40_000, 10_000):
        statistics.add(start, np.full(10_000, 1e4, dtype=np.float32))
    statistics.add(5 * 10**8 + 40_000, np.array([0.5], dtype=np.float32))
    assert statistics.total == 4e8 + 0.5  # 0.5 is lost beside 4e8 in float32
    assert statistics.arrays()["linear_sum"][1000] == 4e8 + 0.5


def test_a_billion_tokens_take_no_more_memory_than_a_thousand():
    sizes = [sum(array.nbytes for array in StreamStatistics(length).arrays().values()) for length in (10**6, 10**9)]
    assert max(sizes) < 100_000


def test_going_on_from_the_arrays_gives_the_same_bits():
    length, nll = 3001, some_nll(3000)
    whole, begun, resumed = read(length, 100, nll), StreamStatistics(length), StreamStatistics(length)
    begun.add(1, nll[:99])
    for start in range(100, 1500, 100):
        begun.add(start, nll[start - 1 : start + 99])
    resumed.restore({name: array.copy() for name, array in begun.arrays().items()})
    for start in range(1500, length, 100):
        resumed.add(start, nll[start - 1 : start + 99])
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(resumed.arrays()[name], array)


def test_sums_of_another_length_are_refused():
    with pytest.raises(ValueError, match="buckets"):
        StreamStatistics(100).restore(StreamStatistics(1000).arrays())


def test_the_newest_tokens_are_whole_buckets_and_at_least_so_many():
    length, nll = 4000, some_nll(3999)
    statistics = read(length, 4000, nll)  # buckets of two
    assert statistics.newest(10) == (10, pytest.approx(nll[-10:].sum(dtype=np.float64)))
    assert statistics.newest(11) == (12, pytest.approx(nll[-12:].sum(dtype=np.float64)))
    assert statistics.newest(10**6) == (3999, pytest.approx(statistics.total))
    half = StreamStatistics(length)
    half.add(1, nll[:999])
    assert half.newest(10) == (10, pytest.approx(nll[989:999].sum(dtype=np.float64)))
    assert StreamStatistics(length).newest(10) == (0, 0.0)


def test_the_table_of_three_streams_has_their_means_and_spread():
    length, nlls = 95, [some_nll(94, seed) for seed in range(3)]
    arrays = merge([read(length, 20, nll).arrays() for nll in nlls], length)
    assert arrays["linear_sum"].shape == (3, len(arrays["linear_edges"]) - 1)
    assert arrays["log_count"].shape == (3, len(arrays["log_edges"]) - 1)
    rows = table(arrays)
    assert [(row["start"], row["end"]) for row in rows[:2] + rows[-1:]] == [(0, 10), (10, 20), (90, 95)]
    assert [row["tokens"] for row in rows] == [27] + [30] * 8 + [15]
    means = [nll[9:19].mean(dtype=np.float64) for nll in nlls]
    assert rows[1]["nll"] == pytest.approx(np.mean(means)) and rows[1]["spread"] == pytest.approx(np.std(means, ddof=1))
    assert rows[1]["perplexity"] == perplexity(rows[1]["nll"])


@pytest.mark.parametrize("length", LENGTHS)
def test_a_table_is_short_and_one_stream_has_no_spread(length):
    rows = table(merge([StreamStatistics(length).arrays()], length))
    assert len(rows) <= TABLE_ROWS and rows[-1]["end"] == length
    assert all(row["spread"] is None and row["nll"] is None for row in rows)
