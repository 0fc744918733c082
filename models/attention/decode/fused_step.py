"""A static decoding step on a GPU in few kernels: two products with the ring, and what torch.compile makes of the rest.

It computes what `one_token` computes operation by operation. Each kernel of so little work takes as long as its launch,
in a CUDA graph too; the first tokens are so few that their products, in float32, are sums within the other kernels.
"""

import torch
from torch import Tensor

from ..compiled import run_fused
from ..config import AttentionLayer
from ..positions import Table
from ..prefill.encoding import turn_pairs
from .cache import LambdaLayer
from .step import Turn


def attend_fused(query: Tensor, key: Tensor, value: Tensor, layer: AttentionLayer, past: LambdaLayer) -> Tensor:
    """`one_token.attend_one` while `past.step` is there, of a configuration that leaves the middle alone."""
    step, interleaved = past.step, getattr(layer.positions, "interleaved", False)
    rings = past.keys, past.values
    keep_raw = layer.config.caps_window
    near, far = run_fused(_enter, True, query, key, value, *rings, step.slot, step.turn, step.heads.scale, keep_raw)
    keys, values = rings[0].narrow(2, 0, step.slots), rings[1].narrow(2, 0, step.slots)
    if step.window is not None:
        encoded = torch.empty_like(keys)
        run_fused(turn_pairs, True, keys, *step.window, interleaved, None, encoded)
        keys = encoded
    near, far = (x.unflatten(1, (step.heads.key, -1)).squeeze(3) for x in (near, far))
    first = None
    if step.sinks:
        first = far, past.sink_keys.narrow(2, 0, step.sinks), past.sink_values.narrow(2, 0, step.sinks)
    weights = run_fused(_weigh, True, near @ keys.mT, step.bias, first, step.first, interleaved, value.dtype)
    output = run_fused(_leave, True, weights[0] @ values, weights[1], first, query.dtype)
    return output.reshape(query.shape[0], step.heads.query, 1, -1)


def _enter(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    ring_keys: Tensor,
    ring_values: Tensor,
    slot: Tensor,
    turn: Turn | None,
    scale: float,
    keep_raw: bool,
) -> tuple[Tensor, Tensor]:
    """Write one token per row into the ring; the scaled query as the window and, in float32, the first tokens feel it.

    query `[B, Hq, 1, d]`, key and value `[B, Hkv, 1, d]`. keep_raw: the ring has keys as projected.
    """
    if turn is None:
        near, far, turned = query * scale, query * scale, key
    else:
        heads = query.shape[1]
        near, far = (_turned(query, turn, slice(first, first + heads)) for first in (0, heads))
        turned = _turned(key, turn, slice(2 * heads, None))
    for ring, new in ((ring_keys, key if keep_raw else turned), (ring_values, value)):
        ring.scatter_(2, slot.view(-1, 1, 1, 1).expand(new.shape), new.to(ring.dtype))
    return near.to(query.dtype), far.float()


def _turned(x: Tensor, turn: Turn, heads: slice) -> Tensor:
    """float32; heads: those of the turn that x has."""
    return x * turn.cos[:, heads] + x[..., turn.swapped] * turn.sin[:, heads]


def _weigh(
    scores: Tensor,
    bias: Tensor,
    first: tuple[Tensor, Tensor, Tensor] | None,
    table: Table | None,
    interleaved: bool,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor | None]:
    """One softmax over the window's scores `[B, Hkv, g, slots]` and those of the first tokens: weights of both.

    first: float32 queries `[B, Hkv, g, d]`, keys and values `[B, Hkv, S, d]`. table: where these keys are felt, None
    where they rest. dtype: that of the window's weights; the others are float32.
    """
    slots = scores.shape[-1]
    scores = scores.float() + bias[..., :slots]
    highest = scores.amax(-1, keepdim=True)
    if first is None:
        weights = (scores - highest).exp()
        return (weights / weights.sum(-1, keepdim=True)).to(dtype), None
    query, keys, _ = first
    keys = keys.float()
    if table is not None:
        encoded = torch.empty_like(keys)
        turn_pairs(keys, *table, interleaved, None, encoded)
        keys = encoded
    others = (query.unsqueeze(-2) * keys.unsqueeze(2)).sum(-1) + bias[..., slots:]
    highest = torch.maximum(highest, others.amax(-1, keepdim=True))
    weights, others = (scores - highest).exp(), (others - highest).exp()
    total = weights.sum(-1, keepdim=True) + others.sum(-1, keepdim=True)
    return (weights / total).to(dtype), others / total


def _leave(
    window: Tensor, weights: Tensor | None, first: tuple[Tensor, Tensor, Tensor] | None, dtype: torch.dtype
) -> Tensor:
    """Add the first tokens' values to the window's `[B, Hkv, g, d_v]`; weights, first: of `_weigh`."""
    if weights is None:
        return window.to(dtype)
    values = first[2].float().unsqueeze(2)
    return (window.float() + (weights.unsqueeze(-1) * values).sum(-2)).to(dtype)
