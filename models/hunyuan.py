"""HunYuan and NanoChat: Llama's attention with norms of queries and keys behind the rotation.

A rotation keeps a vector's length, so the factor of a norm is the same before it; NanoChat's norms are only that. A
weight per channel does not commute with a rotation: with HunYuan's weights v and w a query at position p and a key at
position r score `(v * R_p q)·(w * R_r k)`, which depends on both positions and not on their difference alone.

Λ-attention has a query stand at `min(i, D)` and a key as far before it as it is felt away: what is felt at the limit is
normed at positions D and 0, and no position beyond D is ever met. Counted inside the cache a query stands at
`min(i, G + L - 1)`, and without a limit at i itself. So scores are the vanilla model's until a text is beyond it.

All of this is done to the query, `R_-p (v * w * R_p q)`: its rotation and the key's are then those of any other model.
"""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .assumptions import NORM_EPSILON
from .attention.config import LambdaConfig
from .attention.positions import PositionEncoding, RotaryPositions, rotary_from_config
from .converting.family import Projections
from .llama import NORMS, PARTS, family, project, project_head_normed

NORM_PARTS = ("query_layernorm", "key_layernorm")


def unscaled(positions: RotaryPositions) -> RotaryPositions:
    """A norm behind the rotation takes its factor out again, but for what the norm's epsilon is to a small vector."""
    return replace(positions, scaling=1.0)


def _positions_backwards(base: nn.Module, layer: int, limit_distance: int | None) -> RotaryPositions:
    """NanoChat turns the other way round."""
    positions = unscaled(rotary_from_config(base.config, base.rotary_emb, limit_distance))
    return replace(positions, inv_freq=-positions.inv_freq)


def _positions(base: nn.Module, layer: int, limit_distance: int | None) -> PositionEncoding:
    """With `alpha` the type "dynamic" is one base for all lengths."""
    rope = base.config.rope_parameters
    if rope["rope_type"] != "dynamic" or not rope.get("alpha"):
        return unscaled(rotary_from_config(base.config, base.rotary_emb, limit_distance))
    width = base.config.head_dim
    theta = rope["rope_theta"] * rope["alpha"] ** (width / (width - 2))
    return RotaryPositions(theta ** (-torch.arange(0, width, 2, dtype=torch.float64) / width))


def _project_normed(module: nn.Module, hidden_states: Tensor) -> Projections:
    """Normalised, but not weighted."""
    query, key, value = project(module, hidden_states)
    query, key = (_normalised(x, getattr(module, name)) for x, name in zip((query, key), NORM_PARTS))
    return query, key, value


def _normalised(x: Tensor, norm: nn.Module) -> Tensor:
    return F.rms_norm(x.float(), x.shape[-1:], eps=getattr(norm, NORM_EPSILON)).to(x.dtype)


def _place(module: nn.Module, query: Tensor, positions: Tensor) -> Tensor:
    """Weighted where it stands; the key's weights are here too."""
    weights = _weights(module.query_layernorm, module, query) * _weights(module.key_layernorm, module, query)
    layer = module.lambda_layer
    cos, sin = (x.unsqueeze(-3) for x in layer.positions.table(standing(positions, layer.config)))
    weighted = layer.positions.rotate(query.float(), (cos, sin)) * weights
    return layer.positions.rotate(weighted, (cos, -sin)).to(query.dtype)


def standing(positions: Tensor, config: LambdaConfig) -> Tensor:
    """The positions that queries stand at, of those in the text."""
    farthest = config.limit_distance if config.latest_position is None else config.latest_position
    return positions if farthest is None else positions.clamp(max=farthest)


def _weights(norm: nn.Module, module: nn.Module, query: Tensor) -> Tensor:
    """Those of a norm, float32 `[d]`, by what it makes of ones: under ZeRO-3 only its forward has them."""
    ones = torch.ones(module.head_dim, device=query.device)
    return norm(ones).float() * math.sqrt(1 + getattr(norm, NORM_EPSILON))


_HUNYUAN = family(_project_normed, (*PARTS, *NORM_PARTS), positions=_positions, place=_place, by_distance=False)
FAMILIES = {
    "nanochat": family(project_head_normed, (*PARTS, *NORMS), positions=_positions_backwards),
    **dict.fromkeys(("hunyuan_v1_dense", "hunyuan_v1_moe"), _HUNYUAN),
}
