"""The block masks of the flex backend; its numbers are held against the dense definition with those of the others."""

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask

from models.attention.positions import RotaryPositions
from models.attention.prefill import flex
from models.attention.prefill.flex import band_mask
from models.lambda_attention import AttentionLayer, LambdaConfig, lambda_attention
from tests.dense_reference import dense_lambda_attention, half_split_rotary


def listed(count: torch.Tensor, indices: torch.Tensor) -> list[list[int]]:
    return [sorted(row[:number].tolist()) for number, row in zip(count[0, 0], indices[0, 0])]


@pytest.mark.parametrize(
    ("rows", "columns", "shift", "nearest", "farthest"),
    [
        (1024, 1024, 0, 0, 300),
        (1000, 1299, 299, 0, 300),
        (512, 900, 388, 200, 1000),
        (70, 70, 0, 0, 8),
        (640, 640, 0, 0, 1),
    ],
)
def test_blocks_are_those_of_the_dense_mask(rows, columns, shift, nearest, farthest):
    def attended(batch, head, row, column):
        return (shift + row - column >= nearest) & (shift + row - column < farthest)

    ours = band_mask(rows, columns, shift, nearest, farthest, torch.device("cpu"))
    dense = create_block_mask(attended, 1, 1, rows, columns, device="cpu")
    assert listed(ours.kv_num_blocks, ours.kv_indices) == listed(dense.kv_num_blocks, dense.kv_indices)
    assert listed(ours.full_kv_num_blocks, ours.full_kv_indices) == listed(
        dense.full_kv_num_blocks, dense.full_kv_indices
    )


def loud_first_tokens(width: int, limit: int | None) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values of bfloat16 whose first four tokens score about 20, alike, and whose window does not."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, heads, 120, width, generator=generator) for heads in (4, 2, 2))
    common = torch.randn(1, 2, 1, width, generator=generator)
    key[:, :, :4] = 1.5 * common + 0.5 * key[:, :, :4]
    felt = rotary(width).at_distance(common, -(limit or 0)).repeat_interleave(2, 1)
    return tuple(x.bfloat16() for x in (0.5 * query + 1.5 * felt, key, value))


def rotary(width: int) -> RotaryPositions:
    return RotaryPositions(1e4 ** -(torch.arange(0, width, 2, dtype=torch.float64) / width))


@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("limit", [16, 40, None])
def test_scores_of_the_first_tokens_are_not_rounded(width, limit, monkeypatch):
    tensors, positions = loud_first_tokens(width, limit), rotary(width)
    layer = AttentionLayer(LambdaConfig(16, 4, limit, backend="flex"), positions, width**-0.5)
    turn = half_split_rotary(positions.inv_freq)
    expected = dense_lambda_attention(*(x[0] for x in tensors), layer.config, turn, None, layer.scale)

    def error() -> float:
        output = lambda_attention(*tensors, layer)[0]
        return float((output.double() - expected)[:, 20:].square().mean().sqrt())

    exact = error()
    monkeypatch.setattr(flex, "multiply_exactly", torch.matmul)
    assert exact < 0.4 * error()
    assert exact < 0.004
