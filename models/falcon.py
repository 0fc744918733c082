"""Falcon: ALiBi or rotary positions, as the configuration says; one fused projection, in three orders."""

import math

from torch import Tensor, nn

from .attention.positions import AlibiPositions, PositionEncoding, alibi_slopes
from .converting.family import Family, Projections, rotary_positions


def _project(module: nn.Module, hidden_states: Tensor) -> Projections:
    """Each key head's queries, then its key and value, lie side by side; where there are as many, all heads' alike."""
    fused = module.query_key_value(hidden_states)
    key_heads = module.num_kv_heads
    heads = fused.unflatten(-1, (key_heads, -1, module.head_dim))
    query, key, value = heads[..., :-2, :].flatten(2, 3), heads[..., -2, :], heads[..., -1, :]
    return query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)


def _positions(base: nn.Module, layer: int, limit_distance: int | None) -> PositionEncoding:
    """ALiBi's slopes as Falcon has them, rounded to bfloat16; its biases are scaled with the scores.

    Transformers rounds the biases themselves to bfloat16 too, which from distance 257 on moves them to a neighbour's.
    """
    config = base.config
    if not config.alibi:
        return rotary_positions(base, layer, limit_distance)
    slopes = alibi_slopes(config.num_attention_heads).bfloat16().float()
    return AlibiPositions(slopes / math.sqrt(config.hidden_size // config.num_attention_heads))


FAMILIES = {
    "falcon": Family(
        attention_modules=lambda base: [block.self_attention for block in base.h],
        parts=frozenset({"query_key_value", "dense"}),
        project=_project,
        output="dense",
        scale=lambda module: module.inv_norm_factor,
        positions=_positions,
        instead={"use_alibi": False},  # else it builds a bias as wide as the mask
    )
}
