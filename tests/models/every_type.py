"""The supported types, and kinds of them, as parameters of tests.

Those that the installed Transformers is too old for are skipped.
"""

import pytest
import transformers

from models.model_base import supported_model_types
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


EVERY_TYPE = pytest.mark.parametrize("model_type", types())
