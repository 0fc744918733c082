"""Curves of streams against plain loops over their tokens."""

from itertools import pairwise

import numpy as np
import pytest

from tests.utils.trials.trial_files import long_sums, token_sums
from utils.trials.nll_of_stream import merge
from visualization.drawing.stream_curves import FEWEST_TOKENS, stream_curve


def random_streams(length, number, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.gamma(1.0, 3.0, length - 1) for _ in range(number)]


def arrays_of(streams):
    return merge([token_sums(stream) for stream in streams], len(streams[0]) + 1)


@pytest.mark.parametrize("scale", ["linear", "log"])
@pytest.mark.parametrize("length", [2, 3, 5, 33, 300, 4321])
def test_without_smoothing_a_point_is_a_bucket(scale, length):
    stream = random_streams(length, 1)[0]
    arrays = arrays_of([stream])
    curve = stream_curve(arrays, smoothing=1, scale=scale)
    edges = np.unique(np.maximum(arrays[f"{scale}_edges"], 1))  # the token at 0 is not scored
    if len(edges) > 3 and 2 * (edges[-1] - edges[-2]) < edges[-2] - edges[-3]:
        edges = np.delete(edges, -2)
    parts = [stream[start - 1 : end - 1] for start, end in pairwise(edges)]
    np.testing.assert_allclose(curve.mean, [part.mean() for part in parts])
    np.testing.assert_array_equal(curve.tokens, [len(part) for part in parts])
    np.testing.assert_allclose(curve.position, [(s + e - 1) / 2 for s, e in pairwise(edges)])
    for error, part in zip(curve.standard_error, parts):
        if len(part) > 1:
            assert error == pytest.approx(part.std(ddof=1) / np.sqrt(len(part)))
        else:
            assert np.isnan(error)
    assert np.isnan(curve.deviation).all() and (curve.texts == 1).all()


@pytest.mark.parametrize("scale", ["linear", "log"])
@pytest.mark.parametrize("smoothing", [1, 64, 700])
def test_several_streams_are_averaged_and_their_spread_is_over_streams(scale, smoothing):
    streams = random_streams(6000, 4)
    curve = stream_curve(arrays_of(streams), smoothing=smoothing, scale=scale)
    curves = [stream_curve(arrays_of([stream]), smoothing=smoothing, scale=scale) for stream in streams]
    alone = np.stack([one.mean[-30:] for one in curves])  # the first points differ: they hold few tokens of one
    np.testing.assert_allclose(curve.mean[-30:], alone.mean(axis=0))
    np.testing.assert_allclose(curve.deviation[-30:], alone.std(axis=0, ddof=1))
    np.testing.assert_allclose(curve.standard_error[-30:], alone.std(axis=0, ddof=1) / 2)
    assert (curve.texts == 4).all()


@pytest.mark.parametrize("smoothing", [50, 600, 5000])
def test_linear_windows_are_centred(smoothing):
    ramp = 5 + 0.001 * np.arange(1, 20_000)  # buckets of 10
    curve = stream_curve(arrays_of([ramp]), smoothing=smoothing, scale="linear")
    inner = slice(smoothing // 20 + 1, -smoothing // 20 - 1)
    np.testing.assert_allclose(curve.mean[inner], 5 + 0.001 * curve.position[inner])
    assert smoothing - 20 < curve.tokens[inner].min() <= curve.tokens[inner].max() <= smoothing
    assert curve.tokens[1] < 100 and curve.mean[0] < 5.05


@pytest.mark.parametrize("smoothing", [50, 600, 5000])
def test_logarithmic_windows_are_centred_to_half_a_bucket(smoothing):
    ramp = np.arange(1.0, 20_000.0)
    curve = stream_curve(arrays_of([ramp]), smoothing=smoothing, scale="log")
    inner = curve.position + smoothing < 18_000
    half_a_bucket = (10 ** (1 / 24) - 1) / 2 + 0.005
    np.testing.assert_allclose(curve.mean[inner], curve.position[inner], rtol=half_a_bucket)
    widest_bucket = 20_000 * (1 - 10 ** (-1 / 24))
    assert curve.tokens[inner].max() < smoothing + widest_bucket


@pytest.mark.parametrize("scale", ["linear", "log"])
@pytest.mark.parametrize("streams, length, first", [(1, 3000, 32), (8, 3000, 4), (40, 3000, 1), (2, 10, 9)])
def test_the_first_point_holds_enough_tokens(scale, streams, length, first):
    curve = stream_curve(arrays_of(random_streams(length, streams)), smoothing=512, scale=scale)
    assert curve.tokens[0] >= min(FEWEST_TOKENS, streams * (length - 1))
    assert first * streams <= curve.tokens[0] <= (first + 3) * streams
    assert curve.position[0] == (1 + curve.tokens[0] / streams) / 2


def test_a_last_bucket_cut_short_joins_the_one_before():
    arrays = arrays_of(random_streams(4001, 1))  # linear buckets of 5, the last of one position
    curve = stream_curve(arrays, smoothing=1, scale="linear")
    assert curve.tokens[-1] == 6 and curve.tokens.sum() == 4000
    whole = stream_curve(arrays_of(random_streams(4004, 1)), smoothing=1, scale="linear")
    assert whole.tokens[-2:].tolist() == [5, 4]


@pytest.mark.parametrize("scale", ["linear", "log"])
@pytest.mark.parametrize("length", [200_000_000, 10**9])
def test_long_streams_keep_their_level(scale, length):
    arrays = merge([long_sums(length, seed) for seed in range(4)], length)
    curve = stream_curve(arrays, smoothing=512, scale=scale)
    assert len(curve.position) <= 2000 and curve.position[-1] > 0.9 * length
    far = curve.position > 1e5
    np.testing.assert_allclose(curve.mean[far], 3.0, atol=0.05)
    assert (curve.standard_error[far] < 0.05).all() and (curve.standard_error[far] > 0).all()
