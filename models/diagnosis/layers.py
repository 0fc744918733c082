"""The attention layers of a model, be it converted or not, in the terms of Λ-attention."""

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from ..assumptions import LAYER_TYPES, SLIDING
from ..attention.config import AttentionLayer, LambdaConfig
from ..model_base import FAMILIES, check_supported, is_converted

WINDOWED = frozenset(
    {"ministral", "mistral", "mixtral", "phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "starcoder2"}
)
"""Model types whose own attention heeds `config.sliding_window`."""


def attention_modules(model: PreTrainedModel) -> list[nn.Module]:
    """The attention modules in layer order. Raises UnsupportedModelError for a family that is not known."""
    check_supported(model.config.model_type)
    return FAMILIES[model.config.model_type].attention_modules(model.base_model)


def decoder_layers(model: PreTrainedModel) -> list[nn.Module]:
    """The modules that hold the attention modules: what each gives is the hidden states behind that layer."""
    base = model.base_model
    names = {module: name for name, module in base.named_modules()}
    return [base.get_submodule(names[module].rpartition(".")[0]) for module in attention_modules(model)]


def attention_layers(model: PreTrainedModel, length: int) -> list[AttentionLayer]:
    """Each layer as it attends in a forward over `length` tokens.

    The unmodified model is Λ-attention with a window over all of the text, or its own sliding window, and no limit.
    """
    modules = attention_modules(model)
    if is_converted(model):
        return [module.lambda_layer for module in modules]
    family = FAMILIES[model.config.model_type]
    positions = family.positions(model.base_model, length)
    return [
        AttentionLayer(
            LambdaConfig(sliding_window(model.config, layer_idx) or length, 0, None),
            positions,
            family.scale(module),
            layer_idx,
        )
        for layer_idx, module in enumerate(modules)
    ]


def sliding_window(config: PretrainedConfig, layer_idx: int) -> int | None:
    """Tokens that the unmodified model attends to in this layer; None for all."""
    if config.model_type not in WINDOWED:
        return None
    layer_types = getattr(config, LAYER_TYPES, None)
    if layer_types is not None and layer_types[layer_idx] != SLIDING:
        return None
    return config.sliding_window or None
