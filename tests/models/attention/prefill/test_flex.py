"""The block masks of the flex backend; its numbers are held against the dense definition with those of the others."""

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask

from models.attention.prefill.flex import band_mask


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
