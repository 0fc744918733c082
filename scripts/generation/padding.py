"""Prompts of different lengths as the rows of one tensor."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.assumptions import ATTENTION_MASK, POSITION_IDS, forward_names


def pad_left(prompts: Sequence[list[int]], columns: int = 0) -> tuple[Tensor, Tensor]:
    """int64 token ids and mask, [batch, longest], or at least so many columns; the mask hides the padding, token 0."""
    width = max(columns, *map(len, prompts))
    input_ids = torch.zeros(len(prompts), width, dtype=torch.int64)
    mask = torch.zeros_like(input_ids)
    for row, ids in enumerate(prompts):
        input_ids[row, width - len(ids) :] = torch.tensor(ids)
        mask[row, width - len(ids) :] = 1
    return input_ids, mask


def padding_inputs(module: nn.Module, mask: Tensor | None, columns: int) -> dict[str, Tensor]:
    """The arguments that tell a model of padding, for the last `columns` of a mask [batch, n]; None is no padding."""
    inputs = {} if mask is None else {ATTENTION_MASK: mask}
    if mask is not None and POSITION_IDS in forward_names(module):
        inputs[POSITION_IDS] = (mask.cumsum(-1) - 1).clamp(min=0)[:, -columns:]
    return inputs
