"""Qwen3.5, LFM2, Granite 4, Falcon H1, Jamba, ...: layers that attend among others that carry a recurrent state.

Λ-attention takes the layers that attend. The others stay Transformers' own: their states have a fixed size already.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from .afmoe import gate
from .assumptions import ATTENTION_MASK, POSITION_IDS, find_cache, forward_names
from .attention.positions import NoPositions, PositionEncoding, rotary_from_config
from .converting.family import Family, Projections
from .converting.recurrent import have_read_in_steps
from .converting.wrappers import conversion_of
from .llama import NORMS, PARTS, family, project, project_normed, split_heads

LFM2_PARTS = (*PARTS[:3], "out_proj", "q_layernorm", "k_layernorm")


def _attention_modules(base: nn.Module) -> list[nn.Module]:
    return [module for module in _parts(base, ("self_attn", "mixer")) if hasattr(module, "k_proj")]


def _recurrent(base: nn.Module) -> list[nn.Module]:
    names = ("linear_attn", "mamba", "conv", "mixer")
    return [module for module in _parts(base, names) if hasattr(module, "conv_kernel_size")]


def _parts(base: nn.Module, names: tuple[str, ...]) -> Iterator[nn.Module]:
    """Modules of these names in the layers, in their order; Granite has None in place of some."""
    found = (getattr(layer, name, None) for layer in base.layers for name in names)
    return (module for module in found if module is not None)


def _positions(base: nn.Module, layer: int, limit_distance: int | None) -> PositionEncoding:
    """The configurations of Granite and OLMo may do without."""
    rotary = base.pos_emb if hasattr(base, "pos_emb") else base.rotary_emb
    return NoPositions() if rotary is None else rotary_from_config(base.config, rotary, limit_distance)


def _no_positions(base: nn.Module, layer: int, limit_distance: int | None) -> PositionEncoding:
    return NoPositions()


def _project_gated(module: nn.Module, hidden_states: Tensor) -> Projections:
    """Qwen: each head's gate lies beside its query, and queries and keys are normalised per head."""
    fused = module.q_proj(hidden_states).unflatten(-1, (-1, 2 * module.head_dim))
    query, own_gate = fused.chunk(2, dim=-1)
    key, value = (split_heads(projection(hidden_states), module) for projection in (module.k_proj, module.v_proj))
    heads = module.q_norm(query), module.k_norm(key), value
    return *(x.transpose(1, 2) for x in heads), own_gate.flatten(2)


def _project_lfm2(module: nn.Module, hidden_states: Tensor) -> Projections:
    query, key, value = project(module, hidden_states)
    return module.q_layernorm(query), module.k_layernorm(key), value


def _project_falcon(module: nn.Module, hidden_states: Tensor) -> Projections:
    query, key, value = project(module, hidden_states)
    return query, key * module.key_multiplier, value


def _extend_vanilla(base: nn.Module) -> None:
    base.register_forward_pre_hook(_refuse_padding, with_kwargs=True)


def _extend_bamba(base: nn.Module) -> None:
    _extend_vanilla(base)
    base.register_forward_pre_hook(_give_positions, with_kwargs=True)


def _extend_jamba(base: nn.Module) -> None:
    _extend_vanilla(base)
    have_read_in_steps(_recurrent(base))


def _refuse_padding(base: nn.Module, args: tuple, kwargs: dict) -> None:
    """Raise ValueError for padding in a single column: Transformers takes it for a token that was generated."""
    tokens, inputs = _inputs(base, args, kwargs)
    mask = inputs.get(ATTENTION_MASK)
    if conversion_of(base) is not None:
        return
    if tokens.shape[1] == 1 and isinstance(mask, Tensor) and mask.dim() == 2 and not bool(mask[:, -1].all()):
        raise ValueError(
            "the recurrent layers of this vanilla model take up padding that they read as a single column: give rows "
            "of one length (--batch_size 1), or more tokens at once (--prefill_chunk)"
        )


def _give_positions(base: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """Bamba's own forward begins at position 0 whatever its cache holds."""
    tokens, inputs = _inputs(base, args, kwargs)
    if inputs.get(POSITION_IDS) is None:
        cache = find_cache(inputs)
        first = 0 if cache is None else cache.get_seq_length()
        inputs[POSITION_IDS] = torch.arange(first, first + tokens.shape[1], device=tokens.device)[None]
    return (), inputs


def _inputs(base: nn.Module, args: tuple, kwargs: dict) -> tuple[Tensor, dict]:
    """The new tokens, `[B, n]` or `[B, n, hidden]`, and all arguments by name."""
    inputs = dict(zip(forward_names(base), args)) | kwargs
    tokens = inputs.get("input_ids")
    return inputs["inputs_embeds"] if tokens is None else tokens, inputs


def _hybrid(project=project, parts=PARTS, **hooks) -> Family:
    hooks = {"positions": _positions, "extend_vanilla": _extend_vanilla, **hooks}
    return replace(family(project, parts, **hooks), attention_modules=_attention_modules, recurrent=_recurrent)


_QWEN = _hybrid(_project_gated, (*PARTS, *NORMS), finish=gate)
_LFM2 = _hybrid(_project_lfm2, LFM2_PARTS, output="out_proj")

FAMILIES = {
    **dict.fromkeys(("qwen3_5_moe_text", "qwen3_5_text", "qwen3_next"), _QWEN),
    **dict.fromkeys(("lfm2", "lfm2_moe"), _LFM2),
    "bamba": _hybrid(extend_vanilla=_extend_bamba),
    "granitemoehybrid": _hybrid(),
    "falcon_h1": _hybrid(_project_falcon),
    "jamba": _hybrid(positions=_no_positions, restarts=True, extend_vanilla=_extend_jamba),
    "nemotron_h": _hybrid(positions=_no_positions),
    "olmo_hybrid": _hybrid(project_normed, (*PARTS, *NORMS)),
}
