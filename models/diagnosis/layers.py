"""The attention layers of a model, be it converted or not, in the terms of Λ-attention."""

from torch import nn
from transformers import PreTrainedModel

from ..assumptions import own_window
from ..attention.config import AttentionLayer, LambdaConfig
from ..conversion import layer_positions
from ..model_base import FAMILIES, check_supported, is_converted


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
    positions = layer_positions(family, model.base_model, length)
    return [
        AttentionLayer(
            LambdaConfig(own_window(model.config, layer_idx) or length, 0, None),
            positions[layer_idx],
            family.scale(module),
            layer_idx,
        )
        for layer_idx, module in enumerate(modules)
    ]
