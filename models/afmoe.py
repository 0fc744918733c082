"""AFMoE, BitNet and Phi: Llama's attention with a gate or a norm before the output projection, or other names."""

from torch import Tensor, nn

from .family import Projections
from .llama import NORMS, PARTS, family, project, project_head_normed


def _project_gated(module: nn.Module, hidden_states: Tensor) -> Projections:
    return *project_head_normed(module, hidden_states), module.gate_proj(hidden_states)


def _project_phi(module: nn.Module, hidden_states: Tensor) -> Projections:
    """With `qk_layernorm`, queries and keys normalised per head."""
    query, key, value = project(module, hidden_states)
    if module.qk_layernorm:
        query, key = module.q_layernorm(query), module.k_layernorm(key)
    return query, key, value


def gate(module: nn.Module, attention: Tensor, gate: Tensor) -> Tensor:
    return attention * gate.sigmoid()


def _normalise(module: nn.Module, attention: Tensor) -> Tensor:
    return module.attn_sub_norm(attention)


def _is_local(module: nn.Module) -> bool:
    return module.is_local_attention


FAMILIES = {
    "afmoe": family(_project_gated, (*PARTS, *NORMS, "gate_proj"), is_rotated=_is_local, finish=gate),
    "bitnet": family(parts=(*PARTS, "attn_sub_norm"), finish=_normalise),
    "phi": family(_project_phi, (*PARTS[:3], "dense"), optional=("q_layernorm", "k_layernorm"), output="dense"),
}
