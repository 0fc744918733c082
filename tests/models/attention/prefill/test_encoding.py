"""The passes around a GPU's attention, as they are and as torch.compile makes them: the same numbers.

Here it makes kernels for the CPU; `make test-sm90` counts those that it makes for an H100.
"""

import shutil

import pytest
import torch

from models.attention import compiled
from models.attention.positions import NoPositions, RotaryPositions
from models.attention.prefill import encoding as prefill_encoding
from models.attention.prefill.encoding import encode, encode_into, turn_pairs
from models.attention.prefill.first_tokens import merge_into, weigh_first_tokens
from models.lambda_attention import AttentionLayer, LambdaConfig

CONFIG = LambdaConfig(16, 3, 16)


def positions(rotary_dim: int, interleaved: bool = False, scaling: float = 1.0) -> RotaryPositions:
    inv_freq = 100.0 ** -(torch.arange(0, rotary_dim, 2, dtype=torch.float64) / rotary_dim)
    return RotaryPositions(inv_freq, scaling, interleaved)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("rotary_dim", [8, 6])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_pairs_turn_as_the_encoding_turns_them(dtype, interleaved, rotary_dim, scale):
    encoding, x = positions(rotary_dim, interleaved, 1.1), torch.randn(2, 3, 7, 8).to(dtype)
    storage = torch.zeros(2, 3, 12, 8, dtype=dtype)
    factor = None if scale == 1.0 else torch.tensor(scale)
    turn_pairs(x, *encoding.table_at(5, 7, x.device), interleaved, factor, storage[:, :, 4:11])
    tolerance = {"rtol": 0, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 2**-7, "atol": 1e-6}
    torch.testing.assert_close(storage[:, :, 4:11], encoding.at(x, 5, scale=scale), **tolerance)
    assert not storage[:, :, :4].any() and not storage[:, :, 11:].any()


@pytest.mark.parametrize("features", [1, 2 * 3 * 7 * 8 - 1, 100, 2**17])
def test_shared_out_over_threads_it_is_the_same_encoding(features, monkeypatch):
    """Token by token, in two parts, in several, and not at all."""
    monkeypatch.setattr(prefill_encoding, "CACHED_FEATURES", features)
    x, out, layer = torch.randn(2, 3, 7, 8), torch.zeros(2, 3, 7, 8), AttentionLayer(CONFIG, positions(6), 1.0)
    encode_into(out, x, 5, layer)
    assert torch.equal(out, positions(6).at(x, 5))
    assert torch.equal(encode(x, 5, layer, latest=8, scale=0.3), positions(6).at(x, 5, 8, 0.3))


def test_what_is_not_turned_is_not_copied(monkeypatch):
    monkeypatch.setattr(prefill_encoding, "CACHED_FEATURES", 1)
    x = torch.randn(2, 3, 7, 8)
    assert encode(x, 5, AttentionLayer(CONFIG, NoPositions(), 1.0)) is x


@pytest.fixture
def fused(monkeypatch):
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("inductor needs a C++ compiler on the CPU")
    monkeypatch.setattr(compiled, "_FUSED", {})
    torch._dynamo.reset()
    yield lambda function, *arguments: compiled.run_fused(function, True, *arguments)
    torch._dynamo.reset()


def test_compiled_they_have_the_same_numbers(fused):
    heads, rows, width, first = 6, 40, 8, 3
    x, out = torch.randn(2, rows, heads, width).transpose(1, 2), torch.zeros(2, heads, 60, width)
    fused(turn_pairs, x, *positions(width).table_at(5, rows, x.device), False, None, out[:, :, 10:50])
    torch.testing.assert_close(out[:, :, 10:50], positions(width).at(x, 5), rtol=0, atol=1e-6)
    assert not out[:, :, :10].any() and not out[:, :, 50:].any()

    near, far = torch.randn(2, 2, heads, rows, first)
    arguments = near, far, None, 20, rows, LambdaConfig(16, first, 32), torch.float32
    found, expected = fused(weigh_first_tokens, *arguments), weigh_first_tokens(*arguments)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)

    parts, sums = torch.randn(2, 2, heads, rows, width), torch.randn(2, 2, heads, rows, 1)
    sums[1, :, :, :9] = float("-inf")  # rows that reach no first token
    outputs = [torch.empty(2, rows, heads, width).transpose(1, 2) for _ in range(2)]
    fused(merge_into, outputs[0], parts.unbind(), sums.unbind())
    merge_into(outputs[1], parts.unbind(), sums.unbind())
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-6)
