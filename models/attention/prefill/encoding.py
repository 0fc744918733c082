"""Queries and keys of a segment, encoded at their positions: on a GPU in one kernel each.

Operation by operation RoPE is eight passes over a tensor in float32, which for a wide model take longer than the
attention itself.
"""

from functools import lru_cache

import torch
from torch import Tensor

from ..compiled import run_fused
from ..config import AttentionLayer
from ..positions import RotaryPositions, Table


def encode(x: Tensor, start: int, layer: AttentionLayer, latest: int | None = None, scale: float = 1.0) -> Tensor:
    """`layer.positions.at(x, start, latest, scale)` for x `[B, H, n, d]`; where it is fused it has the strides of x."""
    if not _is_fused(x, layer):
        return layer.positions.at(x, start, latest, scale)
    return _turn(x, layer.positions.table_at(start, x.shape[-2], x.device, latest), layer, torch.empty_like(x), scale)


def encode_into(out: Tensor, x: Tensor, start: int, layer: AttentionLayer) -> None:
    """Write `layer.positions.at(x, start)` into out, of the shape of x `[B, H, n, d]`."""
    if _is_fused(x, layer):
        _turn(x, layer.positions.table_at(start, x.shape[-2], x.device), layer, out)
    else:
        out.copy_(layer.positions.at(x, start))


def encode_at_distance(x: Tensor, distance: int, layer: AttentionLayer, scale: float = 1.0) -> Tensor:
    """`layer.positions.at_distance(x, distance, scale)`, likewise."""
    if not _is_fused(x, layer):
        return layer.positions.at_distance(x, distance, scale)
    return _turn(x, layer.positions.table_of_distance(distance, x.device), layer, torch.empty_like(x), scale)


def encode_by(x: Tensor, table: Table, layer: AttentionLayer) -> Tensor:
    """x `[B, H, n, d]` turned by a table of its n positions, of a layer that has rotary ones."""
    return _turn(x, table, layer, torch.empty_like(x)) if _is_fused(x, layer) else layer.positions.rotate(x, table)


def _is_fused(x: Tensor, layer: AttentionLayer) -> bool:
    return layer.fuses(x) and isinstance(layer.positions, RotaryPositions)


def _turn(x: Tensor, table: Table, layer: AttentionLayer, out: Tensor, scale: float = 1.0) -> Tensor:
    factor = None if scale == 1.0 else _on(x.device, scale)
    run_fused(turn_pairs, True, x, *table, layer.positions.interleaved, factor, out)
    return out


@lru_cache(maxsize=64)
def _on(device: torch.device, scale: float) -> Tensor:
    """A tensor, so that another scale compiles nothing anew."""
    return torch.full((), scale, device=device)


def turn_pairs(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool, scale: Tensor | None, out: Tensor) -> None:
    """Write RoPE of x `[..., n, d]` into out, computed in float32: `RotaryPositions.rotate`, in a form to compile.

    cos, sin: float32 `[n or 1, rotary_dim / 2]`. scale: a factor, float32, None for 1. Every feature is read with its
    partner of the same pair, so that it is one kernel, and a second one where some features are not turned.
    """
    half = cos.shape[-1]
    pairs, pair = ((half, 2), -1) if interleaved else ((2, half), -2)
    wide = x.float() if scale is None else x.float() * scale
    wide, rest = wide[..., : 2 * half].unflatten(-1, pairs), wide[..., 2 * half :]
    cos, sin = cos.unsqueeze(pair), sin.unsqueeze(pair)
    is_first = torch.arange(2, device=x.device).view((2,) if interleaved else (2, 1)) == 0
    turned = wide * cos + torch.where(is_first, -wide.flip(pair), wide.flip(pair)) * sin
    turned = turned.flatten(-2)
    out.copy_(turned if 2 * half == x.shape[-1] else torch.cat((turned, rest), -1))
