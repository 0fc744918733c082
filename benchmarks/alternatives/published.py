"""The published algorithm of LM-Infinite, restated step by step, for the comparison: no one should use it.

Queries in segments of L, each against the keys of its own segment and of the one before: all scores of all segments at
once, in the order of the published code: products, a masked copy, the first tokens' scores joined to it, the division
by sqrt(d), a clamp at the smallest number, one softmax. Heads are taken one by one beyond HEADWISE_LENGTH tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.lambda_attention import AttentionLayer

HEADWISE_LENGTH = 33_000
AT_ONCE_BYTES = 4 * 2**30
"""Nor are more heads taken at once than these bytes of scores."""


def published_attention(query: Tensor, key: Tensor, value: Tensor, layer: AttentionLayer) -> Tensor:
    """The result of `lambda_attention` for a whole sequence. Shapes as there; RoPE, the window as the limit."""
    group, positions, limit = query.shape[1] // key.shape[1], layer.positions, layer.config.limit_distance
    key, value = (x.repeat_interleave(group, dim=1) for x in (key, value))
    tensors = positions.at(query, 0), positions.at_distance(query, limit), positions.at(key, 0), key, value
    parts = zip(*(x.split(_heads_at_once(query, layer), dim=1) for x in tensors))
    return torch.cat([_attend(*part, layer) for part in parts], dim=1)


def _heads_at_once(query: Tensor, layer: AttentionLayer) -> int:
    rows, heads, length, _ = query.shape
    if length > HEADWISE_LENGTH:
        return 1
    head_bytes = rows * length * (2 * layer.config.local_branch + layer.config.global_branch) * query.element_size()
    return max(1, min(heads, AT_ONCE_BYTES // head_bytes))


def _attend(
    near: Tensor, far: Tensor, encoded_key: Tensor, key: Tensor, value: Tensor, layer: AttentionLayer
) -> Tensor:
    """near, far: queries at their positions and at the limit. All `[B, H, n, .]`."""
    size, sinks = layer.config.local_branch, layer.config.global_branch
    scores = torch.cat([_first_scores(far, key, size, sinks), _local_scores(near, encoded_key, size)], -1)
    scores.mul_(layer.scale).clamp_(min=torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1)
    del scores
    output = weights[..., :sinks] @ value[:, :, None, :sinks]
    output = output + weights[..., sinks:] @ _pairs(_segments(value, size))
    return output.flatten(2, 3)[:, :, : near.shape[-2]]


def _first_scores(query: Tensor, key: Tensor, size: int, sinks: int) -> Tensor:
    """`[B, H, S, L, G]`: of the first tokens, where they lie before the window."""
    scores = query @ key[:, :, :sinks].transpose(-1, -2)
    row, column = torch.arange(query.shape[-2], device=query.device)[:, None], torch.arange(sinks, device=query.device)
    return _segments(_masked(scores, row - column >= size), size)


def _local_scores(query: Tensor, key: Tensor, size: int) -> Tensor:
    """`[B, H, S, L, 2 L]`: of two segments of keys, where they lie in the window."""
    scores = _segments(query, size) @ _pairs(_segments(key, size)).transpose(-1, -2)
    row, column = torch.arange(size, device=query.device)[:, None], torch.arange(2 * size, device=query.device)
    distance = size + row - column
    scores = _masked(scores, (distance >= 0) & (distance < size))
    scores[:, :, 0, :, :size] = torch.finfo(scores.dtype).min
    return scores


def _masked(scores: Tensor, attended: Tensor) -> Tensor:
    return torch.where(attended, scores, torch.finfo(scores.dtype).min)


def _segments(x: Tensor, size: int) -> Tensor:
    """`[B, H, n, d]` to `[B, H, S, size, d]`, the last one filled with zeros."""
    return F.pad(x, (0, 0, 0, -x.shape[-2] % size)).unflatten(2, (-1, size))


def _pairs(segments: Tensor) -> Tensor:
    """Each segment behind the one before it: `[B, H, S, size, d]` to `[B, H, S, 2 * size, d]`."""
    before = torch.cat([torch.zeros_like(segments[:, :, :1]), segments[:, :, :-1]], dim=2)
    return torch.cat([before, segments], dim=3)
