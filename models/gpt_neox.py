"""GPT-NeoX (Pythia), its Japanese kin and Persimmon: fused projections, rotary embedding on a part of each head."""

from collections.abc import Callable

from torch import Tensor, nn
from transformers import PreTrainedModel

from .attention.settings import SAME_AS_LOCAL
from .conversion import drop_in
from .converting.family import Family, Projections, rotary_positions
from .llama import layer_normed


def convert_gpt_neox_model(
    model: PreTrainedModel, local_branch: int, global_branch: int, limit_distance=SAME_AS_LOCAL, **options
) -> PreTrainedModel:
    """Give a GPT-NeoX model Λ-attention in place, and return it. Arguments as in `convert_llama_model`."""
    return drop_in(model, FAMILIES, local_branch, global_branch, limit_distance, **options)


def project(module: nn.Module, hidden_states: Tensor) -> Projections:
    """Each head's query, key and value lie side by side."""
    width = module.head_size if hasattr(module, "head_size") else module.head_dim
    fused = module.query_key_value(hidden_states).unflatten(-1, (-1, 3 * width))
    return fused.transpose(1, 2).chunk(3, dim=-1)


def _project_normed(module: nn.Module, hidden_states: Tensor) -> Projections:
    """Persimmon."""
    return layer_normed(module, *project(module, hidden_states))


def _with_bias(module: nn.Module, output: Tensor) -> tuple[Tensor, None, Tensor | None]:
    """GPT-NeoX Japanese: the layer adds the bias of `dense`, which the last one has."""
    return output, None, module.dense_bias


def _family(attention: str, scale: Callable[[nn.Module], float], **hooks) -> Family:
    """attention: the name of a layer's attention module. hooks: further fields of Family."""
    return Family(
        attention_modules=lambda base: [getattr(layer, attention) for layer in base.layers],
        parts=frozenset({"query_key_value", "dense"}),
        output="dense",
        scale=scale,
        positions=rotary_positions,
        **{"project": project, **hooks},
    )


def _scaling(module: nn.Module) -> float:
    return module.scaling


def _inverse_norm(module: nn.Module) -> float:
    return 1 / module.norm_factor


_NORMS = frozenset({"q_layernorm", "k_layernorm"})
FAMILIES = {
    "gpt_neox": _family("attention", _scaling),
    "gpt_neox_japanese": _family("attention", _inverse_norm, optional=frozenset({"dense_bias"}), returns=_with_bias),
    "persimmon": _family("self_attn", _scaling, project=_project_normed, optional=_NORMS),
}
