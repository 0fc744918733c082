"""GPT-OSS, MiMo-V2-Flash, Granite SWA, Flint: Llama's attention with a learned score per head in the softmax."""

from torch import Tensor, nn

from .attention.positions import NoPositions, PositionEncoding, rotary_from_config
from .converting.family import Projections
from .llama import NORMS, PARTS, family, in_windows, project, project_head_normed

SINKS = "sinks"


def _project_mimo(module: nn.Module, hidden_states: Tensor) -> Projections:
    """Value heads have a width of their own, and a factor."""
    query, key = (
        projection(hidden_states).unflatten(-1, (-1, module.head_dim)).transpose(1, 2)
        for projection in (module.q_proj, module.k_proj)
    )
    value = module.v_proj(hidden_states).unflatten(-1, (-1, module.v_head_dim)).transpose(1, 2)
    return query, key, value * module.v_scale


def _sink_logit(module: nn.Module) -> Tensor | None:
    """None in MiMo's layers without a window."""
    return module.sinks


def _granite_positions(base: nn.Module, layer: int, limit_distance: int | None) -> PositionEncoding:
    """A base for each layer, 0 for none; layers of one base share a module."""
    theta = base.config.layer_rope_theta[layer]
    if not theta:
        return NoPositions()
    rotary = next(module for module in base.rotary_embs if module.config.rope_parameters["rope_theta"] == theta)
    return rotary_from_config(rotary.config, rotary, limit_distance)


_GRANITE = family(project, (*PARTS, SINKS), sink_logit=_sink_logit, positions=_granite_positions)
_FLINT = family(project_head_normed, (*PARTS, *NORMS, SINKS), is_rotated=in_windows, sink_logit=_sink_logit)
FAMILIES = {
    "flint": _FLINT,
    "gpt_oss": family(project, (*PARTS, SINKS), sink_logit=_sink_logit),
    "mimo_v2_flash": family(_project_mimo, optional=(SINKS,), sink_logit=_sink_logit),
    **dict.fromkeys(("granite_swa", "granitemoe_swa"), _GRANITE),
}
