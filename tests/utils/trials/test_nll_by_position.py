"""Streaming sums against numpy on everything at once."""

import math

import numpy as np

from utils.trials.nll_by_position import NllStatistics, perplexity


def documents(lengths=(5, 9, 2, 9)):
    generator = np.random.default_rng(0)
    return [generator.gamma(2.0, 2.0, length - 1).astype(np.float32) for length in lengths]


def statistics(nlls):
    result = NllStatistics()
    for nll in nlls:
        result.add(nll)
    return result


def test_per_position_against_a_padded_table():
    nlls = documents()
    table = np.full((len(nlls), 9), np.nan)
    for row, nll in zip(table, nlls):
        row[1 : len(nll) + 1] = nll
    arrays = statistics(nlls).arrays()
    assert arrays["count"].tolist() == (~np.isnan(table)).sum(0).tolist()
    assert arrays["count"][0] == 0 and np.isnan(arrays["mean"][0])
    np.testing.assert_allclose(arrays["mean"][1:], np.nanmean(table[:, 1:], 0), rtol=1e-12)
    np.testing.assert_allclose(arrays["variance"][1:], np.nanvar(table[:, 1:], 0), atol=1e-10)
    assert arrays["count"].dtype == np.int64 and arrays["sum"].dtype == np.float64


def test_buckets_count_tokens_and_documents():
    rows = statistics(documents()).buckets(size=4)
    assert [(row["start"], row["end"], row["tokens"], row["documents"]) for row in rows] == [
        (0, 4, 10, 4),
        (4, 8, 9, 3),
        (8, 9, 2, 2),
    ]
    everything = np.concatenate([nll[3:7] for nll in documents()]).astype(np.float64)
    np.testing.assert_allclose(rows[1]["nll"], everything.mean(), rtol=1e-12)
    assert rows[1]["perplexity"] == math.exp(rows[1]["nll"])


def test_goes_on_from_its_own_arrays_bit_for_bit():
    nlls = documents()
    resumed = NllStatistics(statistics(nlls[:2]).arrays())
    for nll in nlls[2:]:
        resumed.add(nll)
    for name, array in statistics(nlls).arrays().items():
        np.testing.assert_array_equal(array, resumed.arrays()[name])


def test_perplexity_beyond_float64_is_none():
    assert perplexity(800.0) is None and perplexity(None) is None
    assert perplexity(0.0) == 1.0
