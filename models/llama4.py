"""Llama 4 and Ministral 3: Llama's attention with queries that grow with their position in the text."""

from torch import Tensor, nn

from .attention.positions import PositionEncoding
from .attention.temperature import warmed
from .family import Projections
from .hunyuan import unscaled
from .llama import family, project, rotary


def _project_llama4(module: nn.Module, hidden_states: Tensor) -> Projections:
    """With `use_qk_norm`, rotated layers normalise queries and keys, by a factor that no rotation changes."""
    query, key, value = project(module, hidden_states)
    if hasattr(module, "qk_norm"):
        query, key = module.qk_norm(query), module.qk_norm(key)
    return query, key, value


def _is_rotated(module: nn.Module) -> bool:
    return bool(module.use_rope)


def _positions(base: nn.Module, layer: int, limit_distance: int | None) -> PositionEncoding:
    encoding = _ROTARY(base, layer, limit_distance)
    return unscaled(encoding) if hasattr(base.layers[layer].self_attn, "qk_norm") else encoding


def _place_llama4(module: nn.Module, query: Tensor, positions: Tensor) -> Tensor:
    """In layers without positions."""
    if module.use_rope or not module.attn_temperature_tuning:
        return query
    return warmed(query, positions, module.attn_scale, module.floor_scale, first=1)


def _place_ministral3(module: nn.Module, query: Tensor, positions: Tensor) -> Tensor:
    rope = module.config.rope_parameters
    return warmed(query, positions, rope["llama_4_scaling_beta"], rope["original_max_position_embeddings"])


_ROTARY = rotary(True, _is_rotated)
FAMILIES = {
    "llama4_text": family(_project_llama4, optional=("qk_norm",), positions=_positions, place=_place_llama4),
    "ministral3": family(place=_place_ministral3),
}
