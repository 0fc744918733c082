"""Gemma 4: heads normalised, values too; keys may be the values, and kinds of layers have other heads."""

from torch import Tensor, nn

from .assumptions import layer_type
from .attention.positions import RotaryPositions, rotary_from_config
from .converting.family import Projections
from .errors import SharedError
from .llama import NORMS, PARTS, family, split_heads


def _project(module: nn.Module, hidden_states: Tensor) -> Projections:
    query, key = (split_heads(projection(hidden_states), module) for projection in (module.q_proj, module.k_proj))
    value = key if module.v_proj is None else split_heads(module.v_proj(hidden_states), module)
    normed = module.q_norm(query), module.k_norm(key), module.v_norm(value)
    return tuple(x.transpose(1, 2) for x in normed)


def _positions(base: nn.Module, layer: int, limit_distance: int | None) -> RotaryPositions:
    """Raises SharedError where layers attend to the keys of others, or tokens to those behind them."""
    config, kind = base.config, layer_type(base.config, layer)
    if config.num_kv_shared_layers or config.use_bidirectional_attention == "all":
        raise SharedError(
            "Λ-attention does not support a Gemma 4 whose layers attend to keys of other layers (num_kv_shared_layers "
            f"{config.num_kv_shared_layers}) or to what comes later: it takes the larger ones, which do neither"
        )
    return rotary_from_config(config.per_layer_config[kind], base.rotary_emb, limit_distance, layer_type=kind)


_PARTS = (*PARTS[:2], "o_proj", *NORMS, "v_norm")
FAMILIES = {"gemma4_text": family(_project, _PARTS, optional=("v_proj",), positions=_positions)}
