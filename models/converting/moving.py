"""Where methods that move positions (`BandsConfig`) are not defined."""

from collections.abc import Sequence

from transformers import PretrainedConfig

from ..assumptions import ROPE_TYPE, has_alibi, rope_parameters
from ..attention.bands.config import BandsConfig
from ..attention.config import Method
from ..attention.positions import NoPositions, PositionEncoding
from .family import Family


def why_not_moved(config: PretrainedConfig, family: Family, method: Method) -> str | None:
    """Why the method cannot move the positions of a model of this configuration; None where it can, or moves none."""
    if not isinstance(method, BandsConfig):
        return None
    if has_alibi(config):
        return (
            f"moves rotary positions, and {config.model_type} has ALiBi's biases, for which it is not defined: take a "
            "model with RoPE"
        )
    if not family.by_distance:
        return (
            f"moves positions, and the scores of {config.model_type} depend on those of query and key, not on their "
            "distance alone: it is not defined there"
        )
    if rope_parameters(config).get(ROPE_TYPE) == "dynamic":
        return "cannot be combined with RoPE scaling 'dynamic': its frequencies would grow with the text"
    return None


def check_moved(
    config: PretrainedConfig, family: Family, method: Method, positions: Sequence[PositionEncoding] = ()
) -> None:
    """Raise ValueError where `why_not_moved` says so, or where no layer has positions. positions: () if not known."""
    reason, moves = why_not_moved(config, family, method), isinstance(method, BandsConfig)
    if reason is None and moves and positions and all(isinstance(own, NoPositions) for own in positions):
        reason = f"moves positions, and no attention of {config.model_type} has any"
    if reason is not None:
        raise ValueError(f"{method.method} {reason}")
