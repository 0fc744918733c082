"""The Λ-shaped mask for flex_attention, built from its edges: a dense one of 256K x 256K would not fit."""

import torch
from torch.nn.attention.flex_attention import BlockMask

from models.attention.prefill.flex import BLOCK, block_list


def lambda_mask(length: int, local_branch: int, global_branch: int, device: torch.device) -> BlockMask:
    """Query i attends to key j where `j <= i` and `i - j < L` or `j < G`."""

    def attended(batch, head, row, column):
        return (row >= column) & ((row - column < local_branch) | (column < global_branch))

    first = BLOCK * torch.arange(-(-length // BLOCK), device=device)
    last = (first + BLOCK - 1).clamp(max=length - 1)
    shortest, longest = first[:, None] - last, last[:, None] - first
    causal = longest >= 0
    touched = causal & ((shortest < local_branch) | (first < global_branch))
    whole = (shortest >= 0) & ((longest < local_branch) | (last < global_branch)) & (last - first == BLOCK - 1)
    whole &= (last - first == BLOCK - 1)[:, None]
    blocks = [*block_list(touched & ~whole), *block_list(whole)]
    return BlockMask.from_kv_blocks(
        *blocks, BLOCK_SIZE=BLOCK, mask_mod=attended, seq_lengths=(length, length), compute_q_blocks=False
    )
