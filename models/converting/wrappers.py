"""Models around a text model: those that see as well, and wrappers, such as PEFT's, around any of them."""

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from ..assumptions import ATTENTION_MASK, PADDING, PEFT_CONFIG, TOKEN_TYPES, forward_names

SEEING = frozenset(
    {
        *("aria", "aya_vision", "cohere2_vision", "deepseek_vl", "exaone4_5", "gemma3", "got_ocr2"),
        *("idefics2", "idefics3", "internvl", "lighton_ocr", "llava", "llava_next", "llava_next_video"),
        *("llava_onevision", "mistral3", "qianfan_ocr", "smolvlm", "video_llama_3", "video_llava", "vipllava"),
    }
)
"""Model types whose text model reads images as tokens among tokens, in one line of positions and causally."""
MASKING = frozenset({"gemma3"})
"""Those that make the mask of attention themselves, before their text model."""
MISNAMED = {"Llama4ForCausalLM": "model"}
"""Causal LMs that are their own `base_model` in Transformers, and where their base model is."""
PREFIXES = ("PREFIX_TUNING", "CARTRIDGE", "ADAPTION_PROMPT")
"""PEFT's methods that put keys and values in front of a text, which no attention has read."""


def transformers_model(model: nn.Module) -> PreTrainedModel:
    """The model of Transformers within a PeftModel, or within what torch.compile or a wrapper of torch has made."""
    return next((module for module in model.modules() if isinstance(module, PreTrainedModel)), model)


def base_model(model: nn.Module) -> nn.Module:
    """A model of Transformers without its head: it makes hidden states of tokens, and of images."""
    misnamed = MISNAMED.get(type(model).__name__)
    return model.base_model if misnamed is None else model.get_submodule(misnamed)


def text_model(model: nn.Module) -> nn.Module:
    """The base model whose attention is, or would be, converted: within any wrapper, and behind what reads images."""
    whole = transformers_model(model)
    base = base_model(whole)
    return base.get_decoder() if whole.config.model_type in SEEING else base


def text_config(config: PretrainedConfig) -> PretrainedConfig:
    """The configuration of the text model within one that sees or hears as well; a plain one is its own."""
    return config.get_text_config()


def conversion_of(model: nn.Module):
    """The conversion that a model has been through (`conversion._Conversion`), None without one."""
    return text_model(model).__dict__.get("lambda_conversion")


def check_wrapping(model: nn.Module) -> None:
    """Raise ValueError for a PeftModel that hands over keys and values which Λ-attention has not read."""
    method = getattr(getattr(model, PEFT_CONFIG, None), "peft_type", None)
    if method in PREFIXES:
        raise ValueError(
            f"PEFT's {method.value} puts keys and values in front of the text that Λ-attention has not read: take an "
            "adapter of weights (LoRA, ...) or of embeddings (prompt tuning)"
        )


def hand_padding_on(base: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """Before a base model of MASKING: its text model is handed the padding itself, and no mask is made of it.

    Raises ValueError where tokens of an image would attend to each other in both directions.
    """
    inputs = dict(zip(forward_names(base), args)) | kwargs
    kinds = inputs.get(TOKEN_TYPES)
    if kinds is not None and bool(kinds.any()):
        raise ValueError(
            f"the tokens of an image attend to each other in both directions in {type(base).__name__}, and Λ-attention "
            f"is causal: leave images ({TOKEN_TYPES} other than 0) out"
        )
    inputs[TOKEN_TYPES] = None
    inputs[ATTENTION_MASK] = {PADDING: inputs.get(ATTENTION_MASK)}  # as they are passed on that `generate` has made
    return (), inputs


def given_padding(mask: object) -> object:
    """A base model's mask argument, taken out of what `hand_padding_on` has made of it."""
    return mask[PADDING] if isinstance(mask, dict) and PADDING in mask else mask
