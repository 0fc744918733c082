"""The published algorithm of LM-Infinite, restated plainly, for the comparison: no one should use it.

Queries in segments of L, each against the keys of its own segment and of the one before: all scores of all segments at
once, masked to the window, beside those of the first tokens, under one softmax. Heads are taken one by one beyond
HEADWISE_LENGTH tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.lambda_attention import AttentionLayer

HEADWISE_LENGTH = 33_000
AT_ONCE_BYTES = 4 * 2**30
"""Nor are more heads taken at once than these bytes of scores."""


def published_attention(query: Tensor, key: Tensor, value: Tensor, layer: AttentionLayer) -> Tensor:
    """What `lambda_attention` computes for a whole sequence. Shapes as there; RoPE, the window as the limit."""
    group = query.shape[1] // key.shape[1]
    tensors = [query, *(x.repeat_interleave(group, dim=1) for x in (key, value))]
    parts = zip(*(x.split(_heads_at_once(query, layer), dim=1) for x in tensors))
    return torch.cat([_attend(*part, layer) for part in parts], dim=1)


def _heads_at_once(query: Tensor, layer: AttentionLayer) -> int:
    rows, heads, length, _ = query.shape
    if length > HEADWISE_LENGTH:
        return 1
    head_bytes = rows * length * (2 * layer.config.local_branch + layer.config.global_branch) * query.element_size()
    return max(1, min(heads, AT_ONCE_BYTES // head_bytes))


def _attend(query: Tensor, key: Tensor, value: Tensor, layer: AttentionLayer) -> Tensor:
    size, sinks = layer.config.local_branch, layer.config.global_branch
    weights = _scores(query, key, layer).softmax(-1)
    output = weights[..., :sinks] @ value[:, :, None, :sinks]
    output += weights[..., sinks:] @ _pairs(_segments(value, size))
    return output.flatten(2, 3)[:, :, : query.shape[-2]]


def _scores(query: Tensor, key: Tensor, layer: AttentionLayer) -> Tensor:
    """`[B, H, S, L, G + 2 L]`: the first tokens at the limit, then two segments of keys; -inf where not attended."""
    config, positions, query = layer.config, layer.positions, query * layer.scale
    size, sinks = config.local_branch, config.global_branch
    near, far = (_segments(x, size) for x in (positions.at(query, 0), positions.at_distance(query, size)))
    local = near @ _pairs(_segments(positions.at(key, 0), size)).transpose(-1, -2)
    first = far @ key[:, :, None, :sinks].transpose(-1, -2)
    local_mask, first_mask = _masks(near.shape[2], size, sinks, query.device)
    return torch.cat([first.masked_fill_(~first_mask, -torch.inf), local.masked_fill_(~local_mask, -torch.inf)], -1)


def _segments(x: Tensor, size: int) -> Tensor:
    """`[B, H, n, d]` to `[B, H, S, size, d]`, the last one filled with zeros."""
    return F.pad(x, (0, 0, 0, -x.shape[-2] % size)).unflatten(2, (-1, size))


def _pairs(segments: Tensor) -> Tensor:
    """Each segment behind the one before it: `[B, H, S, size, d]` to `[B, H, S, 2 * size, d]`."""
    before = torch.cat([torch.zeros_like(segments[:, :, :1]), segments[:, :, :-1]], dim=2)
    return torch.cat([before, segments], dim=3)


def _masks(segments: int, size: int, sinks: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Where the window attends, `[S, size, 2 * size]`, and where the first tokens lie before it, `[S, size, sinks]`."""
    row, segment = torch.arange(size, device=device)[:, None], torch.arange(segments, device=device)[:, None, None]
    column = torch.arange(2 * size, device=device)
    distance = size + row - column
    window = (distance >= 0) & (distance < size) & ((segment - 1) * size + column >= 0)
    return window, segment * size + row - torch.arange(sinks, device=device) >= size
