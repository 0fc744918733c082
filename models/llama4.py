"""Llama 4: layers with RoPE attend within chunks of the text; others have no positions, and attend to all of it.

A norm of queries and keys without weights stands behind the rotation, which keeps a vector's length: its factor is the
same before it. Queries of layers without positions grow with their position in the text.
"""

from torch import Tensor, nn

from .attention.positions import PositionEncoding
from .attention.temperature import warmed
from .converting.family import Projections
from .hunyuan import unscaled
from .llama import PARTS, family, project, rotary

NORM_PART = "qk_norm"


def _is_rotated(module: nn.Module) -> bool:
    return bool(module.use_rope)


_rotary = rotary(interleaved=True, is_rotated=_is_rotated)


def _positions(base: nn.Module, layer: int, limit_distance: int | None) -> PositionEncoding:
    found = _rotary(base, layer, limit_distance)
    return unscaled(found) if hasattr(base.layers[layer].self_attn, NORM_PART) else found


def _project(module: nn.Module, hidden_states: Tensor) -> Projections:
    query, key, value = project(module, hidden_states)
    if hasattr(module, NORM_PART):
        query, key = module.qk_norm(query), module.qk_norm(key)
    return query, key, value


def _place(module: nn.Module, query: Tensor, positions: Tensor) -> Tensor:
    if module.use_rope or not module.attn_temperature_tuning:
        return query
    return warmed(query, positions, module.attn_scale, module.floor_scale, first=1)


FAMILIES = {
    "llama4_text": family(_project, PARTS, optional=(NORM_PART,), positions=_positions, place=_place),
}
