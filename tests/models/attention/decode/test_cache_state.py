"""A cache as named tensors, and back."""

import pytest
import torch
from transformers import DynamicCache

from models.assumptions import with_cache
from models.attention.config import LambdaConfig, TopK
from models.attention.decode.cache import BOUNDED_TENSORS, LambdaCache
from models.attention.decode.cache_state import branch_cache, cache_tensors, repeat_rows, restore_cache
from models.model_base import convert_model
from tests.tiny_models import tiny_input_ids, tiny_model

pytestmark = pytest.mark.core

CONFIG = LambdaConfig(8, 3, 8)
NAMES = ("history_keys", "history_values", "keys", "sink_keys", "sink_values", "values")


def filled(model, cache, tokens, batch=2):
    with torch.no_grad():
        model(tiny_input_ids(batch, tokens), **with_cache(model, cache))
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


BRANCHED = {
    "dynamic": None,
    "lambda": CONFIG,
    "triangle": LambdaConfig(8, 3, 8, triangle_offset=0.5),
    "top-k": LambdaConfig(8, 3, 8, top_k=TopK(2, 5, from_layer=1)),
    "top-k offloaded": LambdaConfig(8, 3, 8, top_k=TopK(2, 5, offload=True)),
}


@pytest.mark.parametrize("room", [0, 2], ids=["no room", "room"])
@pytest.mark.parametrize("config", BRANCHED.values(), ids=BRANCHED)
def test_branches_leave_a_cache_as_it_is(config, room):
    model = convert_model(tiny_model(), config) if config else tiny_model()
    branched, plain = (filled(model, DynamicCache(), 70) for _ in range(2))
    for seed in (1, 2):
        own, branch = tiny_input_ids(2, 2, seed), branch_cache(branched, room)
        assert torch.equal(read_on(model, own, branch), read_on(model, own, filled(model, DynamicCache(), 70)))
    assert branched.get_seq_length() == 70
    rest = tiny_input_ids(2, 3, seed=3)
    assert torch.equal(read_on(model, rest, branched), read_on(model, rest, plain))


def read_on(model, tokens, cache):
    """Logits of the tokens, read one by one."""
    with torch.no_grad():
        return torch.cat([model(token, **with_cache(model, cache)).logits for token in tokens.split(1, dim=1)], dim=1)


def test_a_branch_shares_what_is_kept_of_all_tokens():
    model = convert_model(tiny_model(), BRANCHED["top-k"])
    cache = filled(model, DynamicCache(), 70)
    branch = branch_cache(cache, room=2)
    read_on(model, tiny_input_ids(2, 2), branch)
    for own, theirs in zip(cache.layers[1].tensors().items(), branch.layers[1].tensors().items()):
        (name, tensor), (_, other) = own, theirs
        assert (tensor.data_ptr() == other.data_ptr()) == name.startswith("history"), name


@pytest.mark.parametrize(
    "config", [BRANCHED["lambda"], BRANCHED["triangle"], None], ids=["lambda", "triangle", "dynamic"]
)
def test_a_row_is_repeated(config):
    model = convert_model(tiny_model(), config) if config else tiny_model()
    alone = [filled(model, DynamicCache(), 20, batch=1) for _ in range(3)]
    cache, rest = filled(model, DynamicCache(), 20, batch=1), tiny_input_ids(3, 4, seed=5)
    repeat_rows(cache, [0, 0, 0])
    expected = torch.cat([read_on(model, row[None], own) for row, own in zip(rest, alone)])
    torch.testing.assert_close(read_on(model, rest, cache), expected, rtol=0, atol=1e-5)


def test_padding_pushes_the_last_columns_out_of_a_row():
    model, cache = tiny_model(), filled(tiny_model(), DynamicCache(), 20, batch=1)
    before = cache.layers[0].keys.clone()
    repeat_rows(cache, [0, 3, 25])
    keys = cache.layers[0].keys
    assert torch.equal(keys[0], before[0]) and torch.equal(keys[1, :, 3:], before[0, :, :17])
    assert not keys[1, :, :3].any() and not keys[2].any() and cache.get_seq_length() == 20
    with pytest.raises(ValueError, match="cannot lose"):
        repeat_rows(filled(convert_model(model, CONFIG), DynamicCache(), 20, batch=1), [0, 1])


def test_a_layer_moves_into_the_memory_of_another():
    config = LambdaConfig(100, 3, 100)
    model = convert_model(tiny_model(), config)
    long, short, plain = (filled(model, LambdaCache(config, 2), tokens) for tokens in (170, 5, 5))
    for own, other in zip(long.layers, short.layers):
        memory = [own.tensors()[name].fill_(float("nan")) for name in BOUNDED_TENSORS]
        assert memory[0].shape[-2] > other.keys.shape[-2], "there must be room that nothing moves into"
        other.move(memory)
        assert all(other.tensors()[name] is place for name, place in zip(BOUNDED_TENSORS, memory))
        assert not any(place.isnan().any() for place in memory)
    rest = tiny_input_ids(2, 12, seed=3)
    torch.testing.assert_close(read_on(model, rest, short), read_on(model, rest, plain), rtol=0, atol=1e-5)
