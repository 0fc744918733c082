"""Models with random weights, of any shape, made where they are used: what a machine without files can measure."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MptConfig, PretrainedConfig, PreTrainedModel

from models.model_base import extend_vanilla_positions


def random_model(config: PretrainedConfig, device: str, dtype: torch.dtype) -> PreTrainedModel:
    """A causal LM of this configuration, unconverted, with random weights; it runs past its position tables."""
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return extend_vanilla_positions(model.eval())


def random_llama(
    query_heads: int, key_heads: int, head_dim: int, layers: int, vocabulary: int, **where: Any
) -> PreTrainedModel:
    """A Llama whose attention layers have this shape, with little else. where: `device` and `dtype`."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=query_heads * 16,  # Transformers wants a multiple of the heads
        intermediate_size=query_heads * 16,
        num_hidden_layers=layers,
        num_attention_heads=query_heads,
        num_key_value_heads=key_heads,
        head_dim=head_dim,
    )
    return random_model(config, **where)


def random_mpt(
    query_heads: int, key_heads: int, head_dim: int, layers: int, vocabulary: int, **where: Any
) -> PreTrainedModel:
    """An MPT, whose positions are ALiBi's, of this shape. where: `device` and `dtype`."""
    if key_heads != query_heads:
        raise ValueError(f"heads of MPT share no keys: {query_heads} heads cannot have {key_heads} of keys")
    config = MptConfig(
        vocab_size=vocabulary, d_model=query_heads * head_dim, n_layers=layers, n_heads=query_heads, expansion_ratio=2
    )
    return random_model(config, **where)
