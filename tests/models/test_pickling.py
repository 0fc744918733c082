"""A converted model as bytes and back, the way that torch.save takes whole models."""

import copy
import io
import pickle
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from models.attention.config import LambdaConfig, TopK
from models.conversion import convert_family
from models.converting.wrappers import text_model
from models.llama import FAMILIES
from models.model_base import convert_model, is_converted, revert_model
from tests.models.every_type import EVERY_TYPE
from tests.seeing_models import seeing_model
from tests.tiny_models import tiny_input_ids, tiny_model

pytestmark = pytest.mark.core

CONFIG = LambdaConfig(8, 3, 8)
IDS = tiny_input_ids(2, 30)


@torch.no_grad()
def logits(model: nn.Module) -> Tensor:
    return model(IDS).logits


def saved_and_loaded(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def pickled(model: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(model))


@EVERY_TYPE
def test_saved_and_loaded_it_is_converted_gives_the_same_and_is_reverted(model_type):
    model = tiny_model(model_type)
    vanilla, expected = logits(model), logits(convert_model(model, CONFIG))
    loaded = saved_and_loaded(model)
    assert is_converted(loaded) and torch.equal(logits(loaded), expected)
    assert torch.equal(logits(revert_model(loaded)), vanilla) and is_converted(model)


@pytest.mark.parametrize("copied", [saved_and_loaded, pickled, copy.deepcopy])
def test_a_copy_shares_nothing_with_the_model(copied):
    model = convert_model(tiny_model("gpt_oss"), CONFIG)
    expected, twin = logits(model), copied(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(logits(model), expected) and not logits(twin).any()
    padded = torch.ones_like(IDS)
    padded[0, :5] = 0
    twin(IDS, attention_mask=padded)
    assert text_model(model).lambda_conversion.running.real.columns is None
    modules = text_model(twin).lambda_conversion.modules
    assert [layer.self_attn for layer in text_model(twin).layers] == modules
    assert len({id(module.lambda_layer.positions) for module in modules}) == 1  # layers share their tables
    assert revert_model(twin).generation_config is not model.generation_config


@pytest.mark.parametrize(
    "make",
    [
        lambda: convert_model(tiny_model(), LambdaConfig(8, 3, None, top_k=TopK(2, 5))),
        lambda: convert_model(seeing_model("gemma3"), CONFIG),
    ],
    ids=["top-k", "sees"],
)
def test_other_settings_and_models_too(make):
    model = make()
    ids = IDS[:, :12]
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    assert torch.equal(saved_and_loaded(model).generate(ids, **options), model.generate(ids, **options))


def test_a_family_that_nobody_could_find_again_is_refused():
    model = convert_family(tiny_model(), replace(FAMILIES["llama"], scale=lambda module: 1.0), CONFIG)
    with pytest.raises(TypeError, match="not in model_base.FAMILIES"):
        saved_and_loaded(model)
    assert torch.equal(logits(copy.deepcopy(model)), logits(model))
