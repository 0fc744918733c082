"""Llama, and every family whose attention is Llama's up to projections, norms and the order of rotary pairs."""

from collections.abc import Callable

from torch import Tensor, nn
from transformers import PreTrainedModel

from .assumptions import layer_type
from .attention.positions import NoPositions, PositionEncoding, rotary_from_config
from .attention.settings import SAME_AS_LOCAL
from .conversion import drop_in
from .converting.family import Family, Projections


def convert_llama_model(
    model: PreTrainedModel, local_branch: int, global_branch: int, limit_distance=SAME_AS_LOCAL, **options
) -> PreTrainedModel:
    """Give a Llama, or a model of a family listed below, Λ-attention in place, and return it.

    limit_distance: None is no limit; by default it is local_branch. options: further fields of LambdaConfig.
    Raises ValueError for another family.
    """
    return drop_in(model, FAMILIES, local_branch, global_branch, limit_distance, **options)


def split_heads(x: Tensor, module: nn.Module) -> Tensor:
    """`[B, n, H * d]` to `[B, n, H, d]`."""
    return x.unflatten(-1, (-1, module.head_dim))


def project(module: nn.Module, hidden_states: Tensor) -> Projections:
    """Separate projections."""
    projections = (module.q_proj, module.k_proj, module.v_proj)
    return tuple(split_heads(projection(hidden_states), module).transpose(1, 2) for projection in projections)


def project_head_normed(module: nn.Module, hidden_states: Tensor) -> Projections:
    """Qwen3, Cohere, ...: queries and keys normalised per head, where the configuration has these norms."""
    query, key, value = project(module, hidden_states)
    if hasattr(module, "q_norm"):  # Cohere's weights are `[H, d]`, so its norms need the heads next to the features
        query = module.q_norm(query.transpose(1, 2)).transpose(1, 2)
        key = module.k_norm(key.transpose(1, 2)).transpose(1, 2)
    return query, key, value


def layer_normed(module: nn.Module, query: Tensor, key: Tensor, value: Tensor) -> Projections:
    """Phi, Persimmon: with `qk_layernorm`, queries and keys normalised per head."""
    if module.qk_layernorm:
        query, key = module.q_layernorm(query), module.k_layernorm(key)
    return query, key, value


def project_normed(module: nn.Module, hidden_states: Tensor) -> Projections:
    """OLMo 2: queries and keys normalised over all heads together."""
    return _in_heads(module, *_normed(module, hidden_states))


def _project_normed_clipped(module: nn.Module, hidden_states: Tensor) -> Projections:
    """OLMoE: normalised so, then bounded."""
    return _in_heads(module, *_clipped(module, *_normed(module, hidden_states)))


def _project_clipped(module: nn.Module, hidden_states: Tensor) -> Projections:
    """OLMo: `clip_qkv` bounds all three."""
    projections = module.q_proj, module.k_proj, module.v_proj
    return _in_heads(module, *_clipped(module, *(projection(hidden_states) for projection in projections)))


def _normed(module: nn.Module, hidden_states: Tensor) -> tuple[Tensor, ...]:
    query, key = module.q_norm(module.q_proj(hidden_states)), module.k_norm(module.k_proj(hidden_states))
    return query, key, module.v_proj(hidden_states)


def _clipped(module: nn.Module, *projected: Tensor) -> tuple[Tensor, ...]:
    """Bounded where the configuration says so."""
    clip = module.config.clip_qkv
    return projected if clip is None else tuple(x.clamp(-clip, clip) for x in projected)


def _in_heads(module: nn.Module, *projected: Tensor) -> Projections:
    return tuple(split_heads(x, module).transpose(1, 2) for x in projected)


def _project_fused(module: nn.Module, hidden_states: Tensor) -> Projections:
    """Phi-3: one projection for queries, then keys, then values."""
    heads = split_heads(module.qkv_proj(hidden_states), module).transpose(1, 2)
    key_heads = module.num_key_value_heads
    return heads.split([heads.shape[1] - 2 * key_heads, key_heads, key_heads], dim=1)


Positions = Callable[[nn.Module, int, int | None], PositionEncoding]
IsRotated = Callable[[nn.Module], bool]


def rotary(interleaved: bool, is_rotated: IsRotated) -> Positions:
    """is_rotated: (attention module) -> whether that layer has positions; one without is a NoPE layer."""

    def positions(base: nn.Module, layer: int, limit_distance: int | None) -> PositionEncoding:
        if not is_rotated(base.layers[layer].self_attn):
            return NoPositions()
        kind = layer_type(base.config, layer)
        return rotary_from_config(base.config, base.rotary_emb, limit_distance, interleaved, kind)

    return positions


def _always(module: nn.Module) -> bool:
    return True


def _where_the_configuration_says(module: nn.Module) -> bool:
    """SmolLM3."""
    return bool(module.use_rope)


def in_windows(module: nn.Module) -> bool:
    """Cohere 2, Flint: layers that attend to all tokens have none, but for Cohere's first dense ones of a mixture."""
    return module.sliding_window is not None or getattr(module, "force_rope", False)


def _in_windows_if_any(module: nn.Module) -> bool:
    """EXAONE 4, Kolibri 1: likewise, unless no layer has a window."""
    return module.sliding_window is None or module.is_sliding


PARTS = ("q_proj", "k_proj", "v_proj", "o_proj")
NORMS = ("q_norm", "k_norm")


def family(project=project, parts=PARTS, interleaved: bool = False, is_rotated=_always, optional=(), **hooks) -> Family:
    """A family whose attention modules are where Llama's are. hooks: further fields of Family."""
    return Family(
        attention_modules=lambda base: [layer.self_attn for layer in base.layers],
        parts=frozenset(parts),
        optional=frozenset(optional),
        project=project,
        scale=lambda module: module.scaling,
        **{"positions": rotary(interleaved, is_rotated), "output": "o_proj", **hooks},
    )


_LLAMA, _LLAMA_INTERLEAVED = family(), family(interleaved=True)
_LLAMA_HEAD_NORMED = family(project_head_normed, (*PARTS, *NORMS))
_LLAMA_NORMED = family(project_normed, (*PARTS, *NORMS))

_LLAMA_TYPES = (
    *("llama", "arcee", "aria_text", "cwm", "exaone", "gemma", "granite", "granitemoe", "granitemoeshared"),
    *("hyperclovax", "internlm3", "iquestcoder", "jais2", "ministral", "mistral", "mixtral", "nemotron", "phimoe"),
    *("qwen2", "qwen2_moe", "seed_oss", "solar_open", "stablelm", "starcoder2"),
)
_HEAD_NORMED_TYPES = ("apertus", "apertus1p5_text", "dots1", "gemma3_text", "hy_v3", "mellum", "qwen3", "qwen3_moe")
_COHERE2 = family(interleaved=True, is_rotated=in_windows)
_EXAONE4 = family(project_head_normed, (*PARTS, *NORMS), is_rotated=_in_windows_if_any)

FAMILIES = {
    **dict.fromkeys(_LLAMA_TYPES, _LLAMA),
    **dict.fromkeys(_HEAD_NORMED_TYPES, _LLAMA_HEAD_NORMED),
    **dict.fromkeys(("glm4_moe", "sarvam_moe"), family(project_head_normed, optional=NORMS)),
    **dict.fromkeys(("ernie4_5", "ernie4_5_moe", "glm", "glm4", "helium"), _LLAMA_INTERLEAVED),
    **dict.fromkeys(("flex_olmo", "minimax_m2", "olmo2", "olmo3"), _LLAMA_NORMED),
    **dict.fromkeys(("cohere2", "cohere2_moe"), _COHERE2),
    **dict.fromkeys(("exaone4", "exaone_moe", "kolibri1"), _EXAONE4),
    "smollm3": family(is_rotated=_where_the_configuration_says),
    "cohere": family(project_head_normed, interleaved=True, optional=NORMS),
    "olmo": family(_project_clipped),
    "olmoe": family(_project_normed_clipped, (*PARTS, *NORMS)),
    "phi3": family(_project_fused, ("qkv_proj", "o_proj")),
}
"""The families by `model_type`."""
