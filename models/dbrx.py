"""DBRX: one fused projection, bounded, inside a block of its own."""

from torch import Tensor, nn

from .converting.family import Family, Projections, rotary_positions


def _project(module: nn.Module, hidden_states: Tensor) -> Projections:
    """Queries of all heads, then keys, then values."""
    fused = module.Wqkv(hidden_states)
    if module.clip_qkv is not None:
        fused = fused.clamp(-module.clip_qkv, module.clip_qkv)
    heads, key_heads = fused.unflatten(-1, (-1, module.head_dim)).transpose(1, 2), module.num_key_value_heads
    return heads.split([module.num_heads, key_heads, key_heads], dim=1)


FAMILIES = {
    "dbrx": Family(
        attention_modules=lambda base: [block.norm_attn_norm.attn for block in base.blocks],
        parts=frozenset({"Wqkv", "out_proj"}),
        project=_project,
        output="out_proj",
        scale=lambda module: module.scaling,
        positions=rotary_positions,
    )
}
