"""The reach of an unconverted model, and what it needs there: to hear of the length before each forward."""

from collections.abc import Callable

from torch import nn
from transformers import PretrainedConfig

from ..assumptions import POSITION_TABLES, ROPE_TYPE, TABLE_OFFSET, find_cache, forward_names, rope_parameters
from ..converting.wrappers import text_config


def position_table_length(model: nn.Module) -> int | None:
    """Positions that a model with learned absolute positions has; None for one that can be read beyond its training."""
    tables = [
        module.num_embeddings - getattr(module, TABLE_OFFSET, 0)
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and name.rsplit(".", 1)[-1] in POSITION_TABLES
    ]
    return min(tables, default=None)


def constant_rope_length(config: PretrainedConfig) -> int | None:
    """Tokens up to which RoPE's frequencies do not depend on the length of the text; None where they never do."""
    config = text_config(config)
    rope = rope_parameters(config)
    if rope.get(ROPE_TYPE) == "dynamic":
        return config.max_position_embeddings
    return rope["original_max_position_embeddings"] if rope.get(ROPE_TYPE) == "longrope" else None


def before_forward(base: nn.Module, prepare: Callable[[nn.Module, int], None]) -> None:
    """Call `prepare(base, length)` before each forward of the base model, or of a copy of it; length counts cached and
    new tokens.
    """
    names = forward_names(base)

    def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
        inputs = dict(zip(names, args)) | kwargs
        tokens = inputs.get("input_ids")
        tokens = inputs["inputs_embeds"] if tokens is None else tokens
        cache, positions = find_cache(inputs), inputs.get("position_ids")
        length = tokens.shape[1] + (0 if cache is None else cache.get_seq_length())
        prepare(module, length if positions is None else max(length, int(positions.max()) + 1))

    base.register_forward_pre_hook(hook, with_kwargs=True)
