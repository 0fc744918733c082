"""The registry of architectures: which families Λ-attention supports, by `config.model_type`."""

from transformers import DynamicCache, PretrainedConfig, PreTrainedModel

from . import afmoe, gemma2, gpt_j, gpt_neox, gpt_oss, hybrids, llama, mpt_7b
from .assumptions import LENGTHS, rope_parameters
from .attention.config import LambdaConfig
from .attention.sequence.group import Ranks
from .conversion import convert_family, is_converted, revert_model
from .errors import SharedError

__all__ = [
    "UnsupportedModelError",
    "check_supported",
    "convert_model",
    "empty_cache",
    "extend_vanilla_positions",
    "is_converted",
    "is_hybrid",
    "pretraining_length",
    "revert_model",
    "supported_model_types",
]

_FILES = (llama, gpt_j, mpt_7b, gpt_neox, gpt_oss, gemma2, afmoe, hybrids)
FAMILIES = {model_type: family for file in _FILES for model_type, family in file.FAMILIES.items()}


_LATENT = "its keys and values are compressed together (multi-head latent attention)"
_TEMPERATURE = "its queries are scaled by their position in the text"
REASONS = {
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "glm4_moe_lite", "longcat_flash", "minicpm3", "youtu"), _LATENT),
    **dict.fromkeys(("deepseek_v32", "glm_moe_dsa"), f"{_LATENT}, and an indexer chooses which are attended"),
    **dict.fromkeys(("llama4_text", "ministral3"), _TEMPERATURE),
    **dict.fromkeys(
        ("hunyuan_v1_dense", "hunyuan_v1_moe"),
        "its norms come after the rotation, so no score is one of a distance alone",
    ),
}
"""Why types that a researcher may well try are not supported, by `model_type`."""


class UnsupportedModelError(SharedError):
    """The model's family has an attention that Λ-attention does not know."""

    def __init__(self, model_type: str) -> None:
        reason = f": {REASONS[model_type]}" if model_type in REASONS else ""
        super().__init__(
            f"Λ-attention does not support models of type {model_type!r}{reason}; "
            f"it supports {', '.join(supported_model_types())}"
        )


def supported_model_types() -> list[str]:
    """Every `config.model_type` that can be converted, sorted."""
    return sorted(FAMILIES)


def check_supported(model_type: str) -> None:
    """Raise UnsupportedModelError unless models of this type can be converted."""
    if model_type not in FAMILIES:
        raise UnsupportedModelError(model_type)


def convert_model(
    model: PreTrainedModel, config: LambdaConfig | None = None, sequence_group: Ranks | None = None
) -> PreTrainedModel:
    """Give a model of any supported family Λ-attention in place, and return it.

    config: None takes the configuration that was saved with a converted model. sequence_group: the ranks that read one
    sequence together, as in `conversion.convert_family`. Raises UnsupportedModelError, SharedError for ranks that would
    share a recurrent state, and ValueError where there is no saved configuration.
    """
    check_supported(model.config.model_type)
    if config is None:
        saved = getattr(model.config, "lambda_attention", None)
        if saved is None:
            raise ValueError("this model was not saved after a conversion: give a LambdaConfig")
        config = LambdaConfig.from_dict(saved)
    return convert_family(model, FAMILIES[model.config.model_type], config, sequence_group)


def extend_vanilla_positions(model: PreTrainedModel) -> PreTrainedModel:
    """Let an unconverted model run past its position tables, where its family has any; returns the model."""
    family = FAMILIES.get(model.config.model_type)
    if family is not None and family.extend_vanilla is not None:
        family.extend_vanilla(model.base_model)
    return model


def is_hybrid(model_type: str) -> bool:
    """Whether some layers of models of this type are known to carry a recurrent state."""
    return model_type in FAMILIES and FAMILIES[model_type].recurrent is not None


def empty_cache(model: PreTrainedModel) -> DynamicCache:
    """A cache that a model, converted or not, reads its first token into; a converted one makes it its own."""
    return DynamicCache(config=model.config) if is_hybrid(model.config.model_type) else DynamicCache()


def pretraining_length(config: PretrainedConfig) -> int | None:
    """Tokens of context that the model was trained with, before RoPE scaling; None if its configuration is silent."""
    rope = rope_parameters(config)
    if isinstance(rope, dict) and rope.get("original_max_position_embeddings"):
        return rope["original_max_position_embeddings"]
    for name in LENGTHS:
        if getattr(config, name, None):
            return getattr(config, name)
    return None
