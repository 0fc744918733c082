"""The supported types as parameters of tests: those that the installed Transformers is too old for are skipped."""

import pytest
import transformers

from models.model_base import supported_model_types
from tests.tiny_models import lacks_type


def _parameter(model_type: str):
    reason = f"Transformers {transformers.__version__} is older than {model_type}"
    return pytest.param(model_type, marks=pytest.mark.skipif(lacks_type(model_type), reason=reason))


def types(leave_out=(), within=None) -> list:
    """Parameters, sorted by name. within: only these."""
    within = supported_model_types() if within is None else within
    return [_parameter(name) for name in supported_model_types() if name in within and name not in leave_out]


EVERY_TYPE = pytest.mark.parametrize("model_type", types())
