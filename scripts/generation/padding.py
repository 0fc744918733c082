"""Prompts of different lengths as the rows of one tensor."""

from collections.abc import Sequence

import torch
from torch import Tensor


def pad_left(prompts: Sequence[list[int]], columns: int = 0) -> tuple[Tensor, Tensor]:
    """int64 token ids and mask, [batch, longest], or at least so many columns; the mask hides the padding, token 0."""
    width = max(columns, *map(len, prompts))
    input_ids = torch.zeros(len(prompts), width, dtype=torch.int64)
    mask = torch.zeros_like(input_ids)
    for row, ids in enumerate(prompts):
        input_ids[row, width - len(ids) :] = torch.tensor(ids)
        mask[row, width - len(ids) :] = 1
    return input_ids, mask
