"""GPT-J and CodeGen: interleaved rotary embedding on a part of each head, a fixed position table."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .assumptions import ROTARY
from .attention.positions import RotaryPositions
from .attention.settings import SAME_AS_LOCAL
from .conversion import drop_in
from .converting.family import Family, Projections
from .loading.vanilla import before_forward

ROPE_THETA = 10000.0
CODEGEN_SHARDS = 4


def convert_gpt_j_model(
    model: PreTrainedModel, local_branch: int, global_branch: int, limit_distance=SAME_AS_LOCAL, **options
) -> PreTrainedModel:
    """Give a GPT-J model Λ-attention in place, and return it. Arguments as in `convert_llama_model`."""
    return drop_in(model, FAMILIES, local_branch, global_branch, limit_distance, **options)


def _project(module: nn.Module, hidden_states: Tensor) -> Projections:
    projections = (module.q_proj, module.k_proj, module.v_proj)
    return tuple(p(hidden_states).unflatten(-1, (-1, module.head_dim)).transpose(1, 2) for p in projections)


def _project_shards(module: nn.Module, hidden_states: Tensor) -> Projections:
    """CodeGen: fused, query, value and key of each of the shards that it was trained in."""
    shards = module.qkv_proj(hidden_states).unflatten(-1, (CODEGEN_SHARDS, 3, -1))
    query, value, key = (shards[..., part, :].flatten(-2) for part in range(3))
    return tuple(x.unflatten(-1, (-1, module.head_dim)).transpose(1, 2) for x in (query, key, value))


def _positions(base: nn.Module, layer: int, limit_distance: int | None) -> RotaryPositions:
    return _rotary(base.config)


def _rotary(config) -> RotaryPositions:
    """The encoding of Transformers: theta is 10,000, and without `rotary_dim` the embedding's size counts."""
    width = config.rotary_dim or config.n_embd
    exponents = torch.arange(0, width, 2, dtype=torch.float64) / width
    return RotaryPositions(ROPE_THETA**-exponents, interleaved=True)


def _attention_modules(base: nn.Module) -> list[nn.Module]:
    return [block.attn for block in base.h]


def _table_holders(base: nn.Module) -> list[nn.Module]:
    """The modules that hold the position table: from Transformers 5.24 on one, before every attention module."""
    rotary = [module for name, module in base.named_children() if name == ROTARY]
    return rotary or _attention_modules(base)


def _extend_vanilla(base: nn.Module) -> None:
    """Append rows to the table before a forward that needs more positions than it has; those it has stay."""

    def lengthen(base: nn.Module, length: int) -> None:
        holders = _table_holders(base)
        table = holders[0].embed_positions
        if length <= table.shape[0]:
            return
        grown = max(length, 2 * table.shape[0])
        cos, sin = _rotary(base.config).range_table(table.shape[0], grown - table.shape[0], table.device)
        table = torch.cat([table, torch.cat([sin, cos], dim=1).to(table.dtype)])
        for module in holders:
            module.embed_positions = table.to(module.embed_positions.device)

    before_forward(base, lengthen)


def _family(project: Callable[[nn.Module, Tensor], Projections], parts: set[str]) -> Family:
    return Family(
        attention_modules=_attention_modules,
        parts=frozenset(parts | {"out_proj"}),
        project=project,
        output="out_proj",
        scale=lambda module: module.head_dim**-0.5,
        positions=_positions,
        extend_vanilla=_extend_vanilla,
    )


FAMILIES = {
    "gptj": _family(_project, {"q_proj", "k_proj", "v_proj"}),
    "codegen": _family(_project_shards, {"qkv_proj"}),
}
