"""Λ-attention by torch's `flex_attention`: a fused kernel for the window, merged with the few first tokens by
log-sum-exp.

Compiled on CUDA, where it is the default in half precision for what flash attention cannot do; elsewhere it runs
uncompiled and dense, which serves the tests only.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, flex_attention

from ..compiled import compile_whole
from ..config import AttentionLayer
from .encoding import encode, encode_at_distance
from .first_tokens import Part, join_first_tokens
from .segment import Segment

BLOCK = 128


def attend_flex(segment: Segment, layer: AttentionLayer, output: Tensor) -> None:
    """Write the attention of the segment's queries into output `[B, Hq, m, d_v]`."""
    encoded = encode(segment.query, segment.start, layer)
    if layer.config.caps_window and layer.positions.slopes is None:
        beyond = encode_at_distance(segment.query, layer.config.limit_distance, layer)
        window = [_window(encoded, segment, layer, capped=False), _window(beyond, segment, layer, capped=True)]
    else:
        window = [_window(encoded, segment, layer)]
    join_first_tokens(segment, layer, encoded, window, output)


@lru_cache(maxsize=1)
def _compiled() -> Callable:
    """It never runs as it is on a GPU, which would make scores n x n."""
    return compile_whole(flex_attention)


def _flex(query: Tensor, key: Tensor, value: Tensor, scale: float, score_mod, block_mask) -> Part:
    attend = _compiled() if query.is_cuda else flex_attention
    # Part of a larger storage, they have strides that no compiler knows to be multiples of 16: no loads of 16 bytes.
    key, value = key.contiguous(), value.contiguous()
    output, aux = attend(
        query, key, value, score_mod, block_mask, scale, enable_gqa=True, return_aux=AuxRequest(lse=True)
    )
    return output, aux.lse.float().unsqueeze(-1)


def _window(encoded: Tensor, segment: Segment, layer: AttentionLayer, capped: bool | None = None) -> Part:
    """The window's attention; capped: its keys at least (True) or less than (False) the limit away, None for all.

    encoded: the queries as those keys feel them.
    """
    config, query = layer.config, segment.query
    nearest = config.limit_distance if capped else 0
    farthest = config.limit_distance if capped is False else config.local_branch
    key = segment.window_raw if capped else segment.window_key
    shift = segment.start - segment.window_start
    mask = band_mask(query.shape[-2], key.shape[-2], shift, nearest, farthest, query.device)
    return _flex(encoded, key, segment.window_value, layer.scale, _score_mod(layer, shift, query.device), mask)


@lru_cache(maxsize=8)
def band_mask(rows: int, columns: int, shift: int, nearest: int, farthest: int, device: torch.device) -> BlockMask:
    """Attend where `nearest <= shift + row - column < farthest`, with the blocks worked out from the band's edges.

    `create_block_mask` would evaluate the band on a dense rows x columns mask first. The last few are remembered
    across layers.
    """
    offset = _offset(shift, device)

    def attended(batch, head, row, column):
        distance = offset + row - column
        return (distance >= nearest) & (distance < farthest)

    top = BLOCK * torch.arange(-(-rows // BLOCK), device=device)[:, None]
    left = BLOCK * torch.arange(-(-columns // BLOCK), device=device)
    bottom, right = (top + BLOCK - 1).clamp(max=rows - 1), (left + BLOCK - 1).clamp(max=columns - 1)
    longest, shortest = shift + bottom - left, shift + top - right
    touched = (longest >= nearest) & (shortest < farthest)
    whole = (shortest >= nearest) & (longest < farthest) & (top + BLOCK <= rows) & (left + BLOCK <= columns)
    blocks = [*block_list(touched & ~whole), *block_list(whole)]
    return BlockMask.from_kv_blocks(
        *blocks, BLOCK_SIZE=BLOCK, mask_mod=attended, seq_lengths=(rows, columns), compute_q_blocks=False
    )


def _offset(shift: int, device: torch.device) -> Tensor:
    """int32, as rows and columns are in the kernel: with an int64 all of a block's distances would be 64 bits wide.

    A tensor, so that another offset compiles nothing anew; filled on the device, which no copy has to wait for.
    """
    return torch.full((), shift, dtype=torch.int32, device=device)


def block_list(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """The number of chosen blocks in each row, int32 `[1, 1, R]`, and columns, theirs first, int32 `[1, 1, R, C]`."""
    order = chosen.int().argsort(dim=-1, descending=True, stable=True)
    return chosen.sum(-1, dtype=torch.int32)[None, None], order.int()[None, None]


def _score_mod(layer: AttentionLayer, shift: int, device: torch.device):
    """What is done to scores: a soft cap, or ALiBi's bias; None for nothing."""
    if layer.soft_cap is not None:
        return _soft_cap(layer.soft_cap)
    if layer.positions.slopes is None:
        return None
    slopes, limit = layer.positions.slopes_on(device), layer.config.limit_distance
    offset = _offset(shift, device)

    def bias(score, batch, head, row, column):
        distance = offset + row - column
        return score - slopes[head] * (distance if limit is None else distance.clamp(max=limit))

    return bias


@lru_cache(maxsize=8)
def _soft_cap(cap: float):
    def capped(score, batch, head, row, column):
        return cap * torch.tanh(score / cap)

    return capped
