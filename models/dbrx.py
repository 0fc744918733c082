"""DBRX: one fused projection, bounded, inside a block of its own."""

from torch import Tensor, nn

from .attention.positions import RotaryPositions, rotary_from_config
from .converting.family import Family, Projections


def _project(module: nn.Module, hidden_states: Tensor) -> Projections:
    """Queries of all heads, then keys, then values."""
    fused = module.Wqkv(hidden_states)
    if module.clip_qkv is not None:
        fused = fused.clamp(-module.clip_qkv, module.clip_qkv)
    heads, key_heads = fused.unflatten(-1, (-1, module.head_dim)).transpose(1, 2), module.num_key_value_heads
    return heads.split([module.num_heads, key_heads, key_heads], dim=1)


def _positions(base: nn.Module, layer: int, limit_distance: int | None) -> RotaryPositions:
    return rotary_from_config(base.config, base.rotary_emb, limit_distance)


FAMILIES = {
    "dbrx": Family(
        attention_modules=lambda base: [block.norm_attn_norm.attn for block in base.blocks],
        parts=frozenset({"Wqkv", "out_proj"}),
        project=_project,
        output="out_proj",
        scale=lambda module: module.scaling,
        positions=_positions,
    )
}
