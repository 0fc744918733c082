"""Queries and keys of a band, at the positions where it has them."""

import math

import torch
from torch import Tensor

from ..config import AttentionLayer
from ..positions import Places, RotaryPositions
from ..prefill.encoding import encode_by
from .band import itself


def encoded(
    x: Tensor, start: int, places: Places, layer: AttentionLayer, alone: bool = False, scale: float = 1.0
) -> Tensor:
    """`scale` times queries or keys x `[..., n, d]` from position `start` on, turned to where `places` has them.

    alone: that what they are multiplied by is as projected, so that they bear its scaling too.
    """
    positions = layer.positions
    if not isinstance(positions, RotaryPositions):
        return x if scale == 1.0 else x * scale
    table = positions.range_table(start, x.shape[-2], x.device, None if places is itself else places)
    if alone and positions.scaling != 1.0:
        table = table[0] * positions.scaling, table[1] * positions.scaling
    return encode_by(x, table, layer, scale)


def log_scaled(query: Tensor, places: Tensor, length: int) -> Tensor:
    """Queries `[..., m, d]` at `places`, int64 `[m]`, times `log(i + 1) / log(length)`, or 1 where that is less."""
    factor = ((places + 1).double().log() / math.log(length)).clamp(min=1)[:, None]
    return (query * factor.to(torch.promote_types(query.dtype, torch.float32))).to(query.dtype)
