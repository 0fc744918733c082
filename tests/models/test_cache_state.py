"""A cache as named tensors, and back."""

import pytest
import torch
from transformers import DynamicCache

from models.cache import LambdaCache
from models.cache_state import cache_tensors, restore_cache
from models.lambda_config import LambdaConfig
from models.model_base import convert_model
from tests.tiny_models import tiny_input_ids, tiny_model

CONFIG = LambdaConfig(8, 3, 8)
NAMES = ("history_keys", "history_values", "keys", "sink_keys", "sink_values", "values")


def filled(model, cache, tokens, batch=2):
    with torch.no_grad():
        model(tiny_input_ids(batch, tokens), past_key_values=cache)
    return cache


def new_cache(kind):
    return LambdaCache(CONFIG, 2) if kind == "lambda" else DynamicCache()


def model_for(kind):
    return convert_model(tiny_model(), CONFIG) if kind == "lambda" else tiny_model()


@pytest.mark.parametrize("kind, names", [("lambda", NAMES), ("dynamic", ("keys", "values"))])
def test_tensors_are_named_by_layer(kind, names):
    tensors = cache_tensors(filled(model_for(kind), new_cache(kind), 20))
    assert sorted(tensors) == [f"{layer}.{name}" for layer in (0, 1) for name in names]
    assert all(len(tensor) == 2 for tensor in tensors.values())


@pytest.mark.parametrize("kind", ["lambda", "dynamic"])
def test_another_cache_takes_them_over_with_their_position(kind):
    model = model_for(kind)
    tensors = {name: tensor.clone() for name, tensor in cache_tensors(filled(model, new_cache(kind), 20)).items()}
    other = filled(model, new_cache(kind), 1)
    restore_cache(other, tensors, 20)
    assert other.get_seq_length() == 20
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in cache_tensors(other).items())
    if kind == "lambda":
        assert [layer.position for layer in other.layers] == [20, 20]


def test_they_get_the_precision_of_the_cache():
    model = model_for("lambda")
    tensors = cache_tensors(filled(model, new_cache("lambda"), 20))
    other = filled(model.to(torch.bfloat16), new_cache("lambda"), 1)
    restore_cache(other, tensors, 20)
    assert {tensor.dtype for tensor in cache_tensors(other).values()} == {torch.bfloat16}


def test_a_missing_tensor_is_named():
    model = model_for("lambda")
    tensors = cache_tensors(filled(model, new_cache("lambda"), 20))
    del tensors["1.sink_keys"]
    with pytest.raises(KeyError, match="1.sink_keys"):
        restore_cache(filled(model, new_cache("lambda"), 1), tensors, 20)


def test_a_cache_that_has_read_nothing_has_none():
    assert cache_tensors(LambdaCache(CONFIG, 2)) == cache_tensors(DynamicCache()) == {}
