"""The memory that a forward takes per token, estimated from above by the widths of a model's layers."""

from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedModel

from ..assumptions import EVERY_EXPERT, EXPERTS_OF_A_TOKEN, HEAD_WIDTH
from ..converting.wrappers import base_model, text_config

MLP_COPIES = 4
"""Tensors as wide as the MLP that are alive at once: the gate, its activation, what it gates, and their product."""
HIDDEN_COPIES = 10
"""Tensors as wide as all heads: the residual, its norm, queries, keys and values, these in the window, the output."""
FLOAT_COPIES = 4
"""Those of them that are float32 whatever the dtype: in a norm, and while positions are rotated. As many tensors hold
the scores of the first tokens."""


def bytes_per_token(model: PreTrainedModel, first_tokens: int = 0) -> int:
    """Bytes that each new token of a row takes while a forward of the base model reads it, its cache not counted.

    first_tokens: those that all attend to, of Λ-attention.
    """
    config = text_config(model.config)
    heads = config.num_attention_heads
    hidden = max(config.hidden_size, heads * (getattr(config, HEAD_WIDTH, None) or 0))
    experts = getattr(config, EVERY_EXPERT.get(config.model_type, EXPERTS_OF_A_TOKEN), None) or 1
    widest = max(_widths(base_model(model), experts), default=MLP_COPIES * hidden)
    wide = MLP_COPIES * widest + (HIDDEN_COPIES + experts - 1) * hidden
    return wide * model.dtype.itemsize + FLOAT_COPIES * (hidden + heads * first_tokens) * 4


def _widths(base: nn.Module, experts: int) -> Iterator[int]:
    """Features that each layer reads or writes per token, also where weights are sharded or packed."""
    for module in base.modules():
        if isinstance(module, nn.Linear):
            yield max(module.in_features, module.out_features)
        elif not isinstance(module, nn.Embedding):
            shapes = [getattr(weight, "ds_shape", weight.shape) for weight in module.parameters(recurse=False)]
            yield from (max(shape) for shape in shapes if len(shape) == 2)
            yield from (experts * max(shape[1:]) for shape in shapes if len(shape) == 3)  # one matrix per expert
