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
from ..sinks import soft_capped
from .cache import LambdaLayer
from .step import Turn


def attend_fused(query: Tensor, key: Tensor, value: Tensor, layer: AttentionLayer, past: LambdaLayer) -> Tensor:
    """`one_token.attend_one` while `past.step` is there, of a configuration that leaves the middle alone."""
    step, interleaved = past.step, getattr(layer.positions, "interleaved", False)
    near, far, turned = run_fused(_enter, True, query, key, step.turn, step.heads.scale)
    past.write(key if layer.config.caps_window else turned, value, step.slot)  # compiled it would copy the rings
    keys, values = past.keys.narrow(2, 0, step.slots), past.values.narrow(2, 0, step.slots)
    if step.window is not None:
        encoded = torch.empty_like(keys)
        run_fused(turn_pairs, True, keys, *step.window, interleaved, None, encoded)
        keys = encoded
    near, far = (x.unflatten(1, (step.heads.key, -1)).squeeze(3) for x in (near, far))
    first = None
    if step.sinks:
        first = far, past.sink_keys.narrow(2, 0, step.sinks), past.sink_values.narrow(2, 0, step.sinks)
    learned = None if layer.sink_logit is None else layer.sink_logit.view(1, step.heads.key, -1, 1)
    arguments = step.bias, first, step.first, interleaved, value.dtype, layer.soft_cap, learned
    weights = run_fused(_weigh, True, near @ keys.mT, *arguments)
    output = run_fused(_leave, True, weights[0] @ values, weights[1], first, query.dtype)
    return output.reshape(query.shape[0], step.heads.query, 1, -1)


def _enter(query: Tensor, key: Tensor, turn: Turn | None, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """The scaled query as the window and, in float32, as the first tokens feel it, and the key at its position.

    query `[B, Hq, 1, d]`, key `[B, Hkv, 1, d]`.
    """
    if turn is None:
        near = query * scale
        return near, near.float(), key
    heads = query.shape[1]
    near, far = (_turned(query, turn, slice(first, first + heads)) for first in (0, heads))
    return near.to(query.dtype), far, _turned(key, turn, slice(2 * heads, None)).to(key.dtype)


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
    soft_cap: float | None = None,
    learned: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """One softmax over the window's scores `[B, Hkv, g, slots]` and those of the first tokens: weights of both.

    first: float32 queries `[B, Hkv, g, d]`, keys and values `[B, Hkv, S, d]`. table: where these keys are felt, None
    where they rest. dtype: that of the window's weights; the others are float32. learned: a score of each head that has
    no value, `[1, Hkv, g, 1]`.
    """
    slots, scores = scores.shape[-1], scores.float()
    if first is not None:
        query, keys = first[0], first[1].float()
        if table is not None:
            encoded = torch.empty_like(keys)
            turn_pairs(keys, *table, interleaved, None, encoded)
            keys = encoded
        scores = torch.cat((scores, (query.unsqueeze(-2) * keys.unsqueeze(2)).sum(-1)), -1)
    columns, scores = scores.shape[-1], soft_capped(scores, soft_cap) + bias
    if learned is not None:
        scores = torch.cat((scores, learned.float().expand(scores.shape[0], -1, -1, -1)), -1)
    weights = scores.softmax(-1)
    return weights[..., :slots].to(dtype), None if first is None else weights[..., slots:columns]


def _leave(
    window: Tensor, weights: Tensor | None, first: tuple[Tensor, Tensor, Tensor] | None, dtype: torch.dtype
) -> Tensor:
    """Add the first tokens' values to the window's `[B, Hkv, g, d_v]`; weights, first: of `_weigh`."""
    if weights is None:
        return window.to(dtype)
    values = first[2].float().unsqueeze(2)
    return (window.float() + (weights.unsqueeze(-1) * values).sum(-2)).to(dtype)
