"""Queries and keys of a segment, encoded at their positions: on a GPU in one kernel each.

Operation by operation RoPE is eight passes over a tensor in float32, which for a wide model take longer than the
attention itself. On the CPU they go over so many tokens at a time that they stay in a core's cache.
"""

from functools import lru_cache

import torch
from torch import Tensor

from ..compiled import run_fused
from ..config import AttentionLayer
from ..positions import RotaryPositions, Table
from ..workers import may_share, run_shared

CACHED_FEATURES = 2**17
"""Of the tokens that a thread encodes at a time on the CPU."""


def encode(x: Tensor, start: int, layer: AttentionLayer, latest: int | None = None, scale: float = 1.0) -> Tensor:
    """`layer.positions.at(x, start, latest, scale)` for x `[B, H, n, d]`; where it is fused it has the strides of x."""
    if not _is_fused(x, layer):
        if not _is_shared_out(x, layer):
            return layer.positions.at(x, start, latest, scale)
        out = torch.empty_like(x)
        _encode_shared_out(out, x, start, layer, latest, scale)
        return out
    return _turn(x, layer.positions.table_at(start, x.shape[-2], x.device, latest), layer, torch.empty_like(x), scale)


def encode_into(out: Tensor, x: Tensor, start: int, layer: AttentionLayer) -> None:
    """Write `layer.positions.at(x, start)` into out, of the shape of x `[B, H, n, d]`."""
    if _is_fused(x, layer):
        _turn(x, layer.positions.table_at(start, x.shape[-2], x.device), layer, out)
    elif _is_shared_out(x, layer):
        _encode_shared_out(out, x, start, layer)
    else:
        out.copy_(layer.positions.at(x, start))


def encode_at_distance(x: Tensor, distance: int, layer: AttentionLayer, scale: float = 1.0) -> Tensor:
    """`layer.positions.at_distance(x, distance, scale)`, likewise."""
    if not _is_fused(x, layer):
        return layer.positions.at_distance(x, distance, scale)
    return _turn(x, layer.positions.table_of_distance(distance, x.device), layer, torch.empty_like(x), scale)


def encode_by(x: Tensor, table: Table, layer: AttentionLayer, scale: float = 1.0) -> Tensor:
    """`scale` times x `[..., n, d]` turned by a table of its n positions, of a layer that has rotary ones."""
    if _is_fused(x, layer):
        return _turn(x, table, layer, torch.empty_like(x), scale)
    return layer.positions.rotate(x, table, scale)


def _is_shared_out(x: Tensor, layer: AttentionLayer) -> bool:
    """Whether threads that compute alone are to turn x, part by part."""
    return isinstance(layer.positions, RotaryPositions) and may_share(x) and x.numel() > CACHED_FEATURES


def _encode_shared_out(
    out: Tensor, x: Tensor, start: int, layer: AttentionLayer, latest: int | None = None, scale: float = 1.0
) -> None:
    """Write `layer.positions.at(x, start, latest, scale)` into out."""
    count = x.shape[-2]
    at_once = max(1, CACHED_FEATURES * count // x.numel())
    parts = [slice(first, min(first + at_once, count)) for first in range(0, count, at_once)]
    run_shared(_encode_part, [(out, x, part, start, layer, latest, scale) for part in parts])


def _encode_part(
    out: Tensor, x: Tensor, part: slice, start: int, layer: AttentionLayer, latest: int | None, scale: float
) -> None:
    out[:, :, part].copy_(layer.positions.at(x[:, :, part], start + part.start, latest, scale))


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
