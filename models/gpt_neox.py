"""GPT-NeoX (Pythia): fused projections, rotary embedding on a part of each head."""

from torch import Tensor, nn
from transformers import PreTrainedModel

from .attention.positions import RotaryPositions, rotary_from_config
from .attention.settings import SAME_AS_LOCAL
from .conversion import drop_in
from .family import Family, Projections


def convert_gpt_neox_model(
    model: PreTrainedModel, local_branch: int, global_branch: int, limit_distance=SAME_AS_LOCAL, **options
) -> PreTrainedModel:
    """Give a GPT-NeoX model Λ-attention in place, and return it. Arguments as in `convert_llama_model`."""
    return drop_in(model, FAMILIES, local_branch, global_branch, limit_distance, **options)


def _project(module: nn.Module, hidden_states: Tensor) -> Projections:
    """Each head's query, key and value lie side by side."""
    fused = module.query_key_value(hidden_states).unflatten(-1, (-1, 3 * module.head_size))
    return fused.transpose(1, 2).chunk(3, dim=-1)


def _positions(base: nn.Module, layer: int, limit_distance: int | None) -> RotaryPositions:
    return rotary_from_config(base.config, base.rotary_emb, limit_distance)


FAMILIES = {
    "gpt_neox": Family(
        attention_modules=lambda base: [layer.attention for layer in base.layers],
        parts=frozenset({"query_key_value", "dense"}),
        project=_project,
        output="dense",
        scale=lambda module: module.scaling,
        positions=_positions,
    )
}
