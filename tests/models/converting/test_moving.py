"""Conversions that are refused: what they say, and that the model stays as it was."""

import pytest
import torch

from models.attention.bands.config import BandsConfig
from models.lambda_attention import LambdaConfig
from models.model_base import convert_model, extend_vanilla_positions, is_converted, revert_model
from tests.models.every_type import types
from tests.tiny_models import tiny_input_ids, tiny_model

pytestmark = pytest.mark.core

IDS = tiny_input_ids(2, 40)
RULES = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
REFUSED = {
    "bloom": "moves rotary positions, and bloom has ALiBi's biases",
    "falcon": "moves rotary positions, and falcon has ALiBi's biases",
    "mpt": "moves rotary positions, and mpt has ALiBi's biases",
    "hunyuan_v1_dense": "depend on those of query and key, not on their distance alone",
    "jamba": "no attention of jamba has any",
    "nemotron_h": "no attention of nemotron_h has any",
}


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model(IDS).logits


@pytest.mark.parametrize(
    "model_type", types(within=REFUSED, leave_out=("falcon:grouped", "falcon:rotary", "hunyuan_v1_dense:alpha"))
)
@pytest.mark.parametrize("method", ["self_extend", "dca", "rerope", "leaky_rerope"])
def test_a_method_that_is_not_defined_for_a_model_leaves_it_as_it_was(model_type, method):
    model = tiny_model(model_type)
    vanilla = logits(model)
    refused(model, model_type, method, vanilla)
    assert not is_converted(model) and not _hooked(model)
    refused(model, model_type, method, logits(convert_model(model, LambdaConfig(8, 3, 8))))
    assert torch.equal(logits(revert_model(model)), vanilla) and not _hooked(model)


def refused(model, model_type: str, method: str, expected: torch.Tensor) -> None:
    """Asserts that a conversion is, and that the model's logits are what they were."""
    with pytest.raises(ValueError, match=REFUSED.get(model_type, "ALiBi")):
        convert_model(model, BandsConfig(method))
    assert torch.equal(logits(model), expected)


def test_frequencies_that_grow_are_refused_before_anything_is_changed():
    model = tiny_model("llama", rope_parameters=RULES)
    vanilla = logits(model)
    for method in (BandsConfig("rerope"), LambdaConfig(8, 3, None)):
        with pytest.raises(ValueError, match="dynamic"):
            convert_model(model, method)
    assert torch.equal(logits(model), vanilla) and not _hooked(model)


def test_a_converted_model_is_not_extended():
    with pytest.raises(ValueError, match="is for an unconverted model: revert_model first"):
        extend_vanilla_positions(convert_model(tiny_model("jamba"), LambdaConfig(8, 3, 8)))


def _hooked(model) -> bool:
    return any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
