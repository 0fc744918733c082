"""The attention layers of a model, be it converted or not, in the terms of Λ-attention."""

from torch import nn
from transformers import PreTrainedModel

from ..assumptions import own_window
from ..attention.config import AttentionLayer, LambdaConfig
from ..converting.family import layer_positions
from ..converting.wrappers import text_config, text_model
from ..errors import SharedError, UserError
from ..model_base import family_of, is_converted


def attention_modules(model: PreTrainedModel) -> list[nn.Module]:
    """The attention modules in layer order.

    Raises UnsupportedModelError for a family that is not known, and SharedError for one with recurrent layers.
    """
    family = family_of(model.config)
    if family.recurrent is not None:
        raise SharedError(
            f"a diagnosis of {model.config.model_type} would pass over its recurrent layers, which no weights of "
            "attention describe: take a model whose layers all attend"
        )
    return family.attention_modules(text_model(model))


def decoder_layers(model: PreTrainedModel) -> list[nn.Module]:
    """The modules that hold the attention modules: what each gives is the hidden states behind that layer."""
    base = text_model(model)
    names = {module: name for name, module in base.named_modules()}
    return [base.get_submodule(_in_its_list(names[module])) for module in attention_modules(model)]


def _in_its_list(name: str) -> str:
    """The part of a module's name that ends with its layer's number: DBRX has a block within each."""
    parts = name.split(".")
    number = next(place for place, part in enumerate(parts) if part.isdigit())
    return ".".join(parts[: number + 1])


def attention_layers(model: PreTrainedModel, length: int) -> list[AttentionLayer]:
    """Each layer as it attends in a forward over `length` tokens.

    The unmodified model is Λ-attention with a window over all of the text, or its own sliding window, and no limit.
    Raises UserError for a model whose scores are more than products.
    """
    modules, family = attention_modules(model), family_of(model.config)
    if family.soft_cap is not None or family.sink_logit is not None or family.place is not None:
        raise UserError(
            f"a diagnosis of {model.config.model_type} would lack its soft caps, learned sink logits, or what its "
            "queries' positions do to them: take a model whose scores are products alone"
        )
    if is_converted(model):
        return [module.lambda_layer for module in modules]
    positions = layer_positions(family, text_model(model), length)
    config = text_config(model.config)
    configs = [LambdaConfig(own_window(config, layer) or length, 0, None) for layer in range(len(modules))]
    return [family.layer(*parts, layer) for layer, parts in enumerate(zip(modules, configs, positions))]
