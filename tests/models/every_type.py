"""The supported types as parameters of tests: those that the installed Transformers is too old for are skipped."""

import pytest
import transformers

from models.attention.decode.cache import LambdaCache
from models.model_base import FAMILIES, supported_model_types
from tests.tiny_models import lacks_type


def _parameter(model_type: str):
    reason = f"Transformers {transformers.__version__} is older than {model_type}"
    return pytest.param(model_type, marks=pytest.mark.skipif(lacks_type(model_type), reason=reason))


def types(leave_out=(), within=None) -> list:
    """Parameters, sorted by name. within: only these."""
    within = supported_model_types() if within is None else within
    return [_parameter(name) for name in supported_model_types() if name in within and name not in leave_out]


HYBRIDS = tuple(name for name, family in FAMILIES.items() if family.recurrent is not None)
"""The types of which some layers carry a recurrent state."""


def rounding(model_type: str | None) -> int:
    """How much farther apart a type's results may lie than those of others.

    A delta rule magnifies what rounding does to its input: vanilla parts and whole differ by 2e-5 of a logit as well.
    """
    return 10 if model_type in ("olmo_hybrid", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next") else 1


def empty_cache(model) -> LambdaCache:
    """A cache for a converted model, made from its configuration alone."""
    conversion = model.base_model.lambda_conversion
    return LambdaCache(conversion.config, len(conversion.plans))


STATIC_TYPES = pytest.mark.parametrize("model_type", types(leave_out=HYBRIDS))
"""Those of which a step has static shapes."""
EVERY_TYPE = pytest.mark.parametrize("model_type", types())
