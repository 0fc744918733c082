"""Rotary positions of an unconverted model scaled for longer texts, as its configuration tells Transformers."""

from transformers import PretrainedConfig

from ..assumptions import HEAD_WIDTH, ROPE_TYPE, rope_parameters
from ..converting.wrappers import text_config
from ..errors import SharedError
from ..model_base import pretraining_length

NTK = "ntk"
"""Static NTK: no `rope_type` of Transformers, but another theta of its "default"."""


def rope_type(config: PretrainedConfig) -> str | None:
    """The rope_type; None for a model without RoPE, or with another one per kind of layer."""
    return rope_parameters(text_config(config)).get(ROPE_TYPE)


def scale_rope(config: PretrainedConfig, scaling: str, factor: float | None, target_length: int | None) -> None:
    """Have a configuration scale RoPE, before its model is made.

    scaling: a `rope_type` of Transformers, or NTK. factor: None for target_length over the pre-training length, both in
    tokens. Raises SharedError, naming the flag, for a model that cannot be scaled, or is scaled already.
    """
    config = text_config(config)
    own = rope_type(config)
    if own is None:
        raise SharedError(
            f"--rope_scaling {scaling} needs a model whose rotary positions can be scaled, {config.model_type} has none"
        )
    if own != "default":
        raise SharedError(f"--rope_scaling {scaling}: this checkpoint has a scaling of its own, {own}")
    if factor is None:
        factor = _factor(config, scaling, target_length)
    if scaling == NTK:
        rope, width = config.rope_parameters, _rotary_width(config)
        config.rope_parameters = rope | {"rope_theta": rope["rope_theta"] * factor ** (width / (width - 2))}
        return
    config.rope_parameters |= {"rope_type": scaling, "factor": factor}
    if scaling == "yarn":
        config.rope_parameters["original_max_position_embeddings"] = _length(config, scaling)


def _factor(config: PretrainedConfig, scaling: str, target_length: int) -> float:
    length = _length(config, scaling)
    if target_length < length:
        raise SharedError(
            f"--target_length {target_length} is less than the {length} tokens that this model was trained with, and "
            f"--rope_scaling {scaling} is for longer texts: give at least that, or do without"
        )
    return target_length / length


def _length(config: PretrainedConfig, scaling: str) -> int:
    length = pretraining_length(config)
    if length is None:
        raise SharedError(f"--rope_scaling {scaling}: the model's configuration has no pre-training length")
    return length


def _rotary_width(config: PretrainedConfig) -> int:
    """Features of a head that are turned."""
    width = getattr(config, HEAD_WIDTH, None) or config.hidden_size // config.num_attention_heads
    return int(width * rope_parameters(config).get("partial_rotary_factor", 1.0))
