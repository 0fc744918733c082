"""Llama's attention with a gate, a norm or a difference before the output projection, or under other names."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention.temperature import raised
from .converting.family import Projections
from .llama import NORMS, PARTS, family, layer_normed, project, project_head_normed


def _project_gated(module: nn.Module, hidden_states: Tensor) -> Projections:
    return *project_head_normed(module, hidden_states), module.gate_proj(hidden_states)


def _project_laguna(module: nn.Module, hidden_states: Tensor) -> Projections:
    """A gate for each head, or for each of its features."""
    return *project_head_normed(module, hidden_states), F.softplus(module.g_proj(hidden_states).float())


def _project_phi(module: nn.Module, hidden_states: Tensor) -> Projections:
    return layer_normed(module, *project(module, hidden_states))


def _project_halves(module: nn.Module, hidden_states: Tensor) -> Projections:
    """DiffLlama: value heads of both halves side by side, as wide as two, for the keys of either half."""
    query, key, value = project(module, hidden_states)
    return query, key, torch.cat(value.chunk(2, dim=1), -1).repeat(1, 2, 1, 1)


def gate(module: nn.Module, attention: Tensor, gate: Tensor) -> Tensor:
    return attention * gate.sigmoid()


def _gate_biased(module: nn.Module, attention: Tensor, gate: Tensor) -> Tensor:
    """Beam: a bias for each head."""
    bias = module.gate_bias.repeat_interleave(module.head_dim)
    return attention * (gate + bias).sigmoid()


def _gate_laguna(module: nn.Module, attention: Tensor, gate: Tensor) -> Tensor:
    width = module.head_dim if module.gate_per_head else 1
    return attention * gate.to(attention.dtype).repeat_interleave(width, -1)


def _normalise(module: nn.Module, attention: Tensor) -> Tensor:
    return module.attn_sub_norm(attention)


def _subtract(module: nn.Module, attention: Tensor) -> Tensor:
    """DiffLlama: the second half of the heads off the first, then a norm."""
    first, second = attention.unflatten(-1, (-1, 2 * module.head_dim)).chunk(2, dim=-2)
    share = _exponential(module.lambda_q1, module.lambda_k1) - _exponential(module.lambda_q2, module.lambda_k2)
    share = share.to(attention.dtype) + module.lambda_init
    return ((1 - module.lambda_init) * module.groupnorm(first - share * second)).flatten(-2)


def _exponential(query: Tensor, key: Tensor) -> Tensor:
    return (query * key).sum(dtype=torch.float32).exp()


def _is_local(module: nn.Module) -> bool:
    return module.is_local_attention


def _has_bases(module: nn.Module) -> bool:
    """Beam: kinds of layers that no rotary parameters are given for have no positions."""
    config = module.config
    return config.rope_parameters[config.layer_types[module.layer_idx]] is not None


def _place_beam(module: nn.Module, query: Tensor, positions: Tensor) -> Tensor:
    """In layers without positions."""
    return query if _has_bases(module) else raised(query, positions)


_DIFFERENCES = ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2", "groupnorm")
FAMILIES = {
    "afmoe": family(_project_gated, (*PARTS, *NORMS, "gate_proj"), is_rotated=_is_local, finish=gate),
    "beam": family(
        _project_gated,
        (*PARTS, *NORMS, "gate_proj", "gate_bias"),
        is_rotated=_has_bases,
        finish=_gate_biased,
        place=_place_beam,
    ),
    "bitnet": family(parts=(*PARTS, "attn_sub_norm"), finish=_normalise),
    "diffllama": family(_project_halves, (*PARTS, *_DIFFERENCES), finish=_subtract),
    "laguna": family(
        _project_laguna, (*PARTS, *NORMS, "g_proj"), finish=_gate_laguna, query_heads=lambda module: module.num_heads
    ),
    "phi": family(_project_phi, (*PARTS[:3], "dense"), optional=("q_layernorm", "k_layernorm"), output="dense"),
}
