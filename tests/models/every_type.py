"""The supported types, and kinds of them, as parameters of tests.

Those that the installed Transformers is too old for are skipped.
"""

import pytest
import transformers

from models.attention.decode.cache import LambdaCache
from models.converting.wrappers import text_model
from models.model_base import FAMILIES, supported_model_types
from tests.tiny_models import CONFIGS, lacks_type, type_of


def _parameter(model_type: str):
    reason = f"Transformers {transformers.__version__} is older than {model_type}"
    return pytest.param(model_type, marks=pytest.mark.skipif(lacks_type(model_type), reason=reason))


def types(leave_out=(), within=None) -> list:
    """Parameters, sorted by name. within: only these types, with all of their kinds. leave_out: kinds."""
    supported = supported_model_types()
    within = supported if within is None else within
    without_kinds = set(supported) - CONFIGS.keys()  # a type without a configuration fails its tests
    kinds = sorted([kind for kind in CONFIGS if type_of(kind) in supported] + list(without_kinds))
    return [_parameter(kind) for kind in kinds if type_of(kind) in within and kind not in leave_out]


HYBRIDS = tuple(name for name, family in FAMILIES.items() if family.recurrent is not None)
"""The types of which some layers carry a recurrent state."""


def rounding(model_type: str | None) -> int:
    """How much farther apart a type's results may lie than those of others.

    A delta rule magnifies what rounding does to its input: vanilla parts and whole differ by 2e-5 of a logit as well.
    """
    return 10 if model_type in ("olmo_hybrid", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next") else 1


def empty_cache(model) -> LambdaCache:
    """A cache for a converted model, made from its configuration alone."""
    conversion = text_model(model).lambda_conversion
    return LambdaCache(conversion.config, len(conversion.plans))


STATIC_TYPES = pytest.mark.parametrize("model_type", types(leave_out=HYBRIDS))
"""Those of which a step has static shapes."""
EVERY_TYPE = pytest.mark.parametrize("model_type", types())
