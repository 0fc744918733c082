"""Λ-attention for Hugging Face models: a library of its own, which imports torch, Transformers, einops and itself.

    from lm_infinite import convert_llama_model  # installed with pip; from a clone: from models import ...
    model = convert_llama_model(model, 4096, 10)

Installed, the folder is called `lm_infinite`. In one process use it under one of its names: under both there would be
two copies, and neither knows a model that the other has converted.

At this level stand the entry points (`lambda_attention`, `model_base`, `get_model`, `conversion`, ...) and one file for
each family of models. A family more: a file like `gpt_neox.py`, which says where its projections and positions are,
named in `model_base.FAMILIES`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .attention.bands.config import BandsConfig
    from .attention.config import LambdaConfig, TopK
    from .attention.decode.cache import LambdaCache
    from .decode_graph import CapturedSteps, DecodeGraph
    from .gpt_j import convert_gpt_j_model
    from .gpt_neox import convert_gpt_neox_model
    from .llama import convert_llama_model
    from .model_base import convert_model, is_converted, revert_model
    from .mpt_7b import convert_mpt_model

__version__ = "0.1.0"

__all__ = [
    "BandsConfig",
    "CapturedSteps",
    "DecodeGraph",
    "LambdaCache",
    "LambdaConfig",
    "TopK",
    "convert_gpt_j_model",
    "convert_gpt_neox_model",
    "convert_llama_model",
    "convert_model",
    "convert_mpt_model",
    "is_converted",
    "revert_model",
]

_HOMES = {
    "BandsConfig": "attention.bands.config",
    "CapturedSteps": "decode_graph",
    "DecodeGraph": "decode_graph",
    "LambdaCache": "attention.decode.cache",
    "LambdaConfig": "attention.config",
    "TopK": "attention.config",
    "convert_gpt_j_model": "gpt_j",
    "convert_gpt_neox_model": "gpt_neox",
    "convert_llama_model": "llama",
    "convert_model": "model_base",
    "convert_mpt_model": "mpt_7b",
    "is_converted": "model_base",
    "revert_model": "model_base",
}


def __getattr__(name: str) -> Any:
    """A name of `__all__`, imported when it is first asked for: importing the package alone imports no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
