"""The registry of architectures: which families Λ-attention supports, by `config.model_type`."""

from transformers import DynamicCache, PretrainedConfig, PreTrainedModel

from . import (
    afmoe,
    bloom,
    dbrx,
    falcon,
    gemma2,
    gemma4,
    gpt_j,
    gpt_neox,
    gpt_oss,
    hunyuan,
    hybrids,
    jetmoe,
    llama,
    llama4,
    ministral3,
    mpt_7b,
)
from .assumptions import LENGTHS, rope_parameters
from .attention.bands.config import BandsConfig
from .attention.config import Method, method_from_dict
from .attention.sequence.group import Ranks
from .conversion import convert_family, is_converted, revert_model
from .converting.family import Family
from .converting.moving import check_moved
from .converting.refused import REASONS
from .converting.wrappers import SEEING, text_config, text_model, transformers_model
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

_FILES = (
    *(llama, llama4, gpt_oss, gemma2, gemma4, afmoe, ministral3, hunyuan, dbrx, jetmoe, hybrids),
    *(gpt_j, gpt_neox, falcon, bloom, mpt_7b),
)
FAMILIES = {model_type: family for file in _FILES for model_type, family in file.FAMILIES.items()}


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


def family_of(config: PretrainedConfig) -> Family:
    """The family of a model, or of the text model within one. Raises UnsupportedModelError where there is none."""
    if text_config(config) is not config and config.model_type not in SEEING:
        raise UnsupportedModelError(config.model_type)
    model_type = text_config(config).model_type
    check_supported(model_type)
    return FAMILIES[model_type]


def convert_model(
    model: PreTrainedModel, config: Method | None = None, sequence_group: Ranks | None = None
) -> PreTrainedModel:
    """Give a model of any supported family Λ-attention, or the attention of another method, in place, and return it.

    config: None takes the configuration that was saved with a converted model. What a BandsConfig leaves open is chosen
    by the pre-training length. sequence_group: the ranks that read one sequence together, as in
    `conversion.convert_family`. Raises UnsupportedModelError, SharedError for ranks that would share a recurrent state,
    and ValueError where there is no saved configuration.
    """
    whole = transformers_model(model)
    family = family_of(whole.config)
    if config is None:
        saved = getattr(whole.config, "lambda_attention", None)
        if saved is None:
            raise ValueError("this model was not saved after a conversion: give a LambdaConfig")
        config = method_from_dict(saved)
    if isinstance(config, BandsConfig):
        check_moved(text_config(whole.config), family, config)
        config = config.of_length(pretraining_length(whole.config))
    return convert_family(model, family, config, sequence_group)


def extend_vanilla_positions(model: PreTrainedModel) -> PreTrainedModel:
    """Let an unconverted model run past its position tables, where its family has any; returns the model.

    Raises ValueError for a converted one.
    """
    if is_converted(model):
        raise ValueError("extend_vanilla_positions is for an unconverted model: revert_model first")
    family = FAMILIES.get(text_config(model.config).model_type)
    if family is not None and family.extend_vanilla is not None:
        family.extend_vanilla(text_model(model))
    return model


def is_hybrid(config: PretrainedConfig) -> bool:
    """Whether some layers of a model of this configuration are known to carry a recurrent state."""
    family = FAMILIES.get(text_config(config).model_type)
    return family is not None and family.recurrent is not None


def empty_cache(model: PreTrainedModel) -> DynamicCache:
    """A cache that a model, converted or not, reads its first token into; a converted one makes it its own."""
    config = transformers_model(model).config
    return DynamicCache(config=text_config(config)) if is_hybrid(config) else DynamicCache()


def pretraining_length(config: PretrainedConfig) -> int | None:
    """Tokens of context that the model was trained with, before RoPE scaling; None if its configuration is silent."""
    config = text_config(config)
    rope = rope_parameters(config)
    if isinstance(rope, dict) and rope.get("original_max_position_embeddings"):
        return rope["original_max_position_embeddings"]
    for name in LENGTHS:
        if getattr(config, name, None):
            return getattr(config, name)
    return None
