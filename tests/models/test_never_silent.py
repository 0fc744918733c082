"""What a release of Transformers could change without a sound is an error that names it: each change is made here."""

import copy
import logging
from types import SimpleNamespace

import pytest
import torch
import transformers
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from transformers.cache_utils import DynamicCache
from transformers.models.llama.modeling_llama import LlamaDecoderLayer
from transformers.models.mpt.modeling_mpt import MptBlock

from models import assumptions
from models.assumptions import LAYER_CACHE_NAMES, OUTPUT_CACHE, with_cache
from models.attention.config import LambdaConfig
from models.attention.decode.cache import LambdaCache
from models.decode_graph import DecodeGraph
from models.errors import UserError
from models.get_model import ModelSpec, get_model
from models.model_base import convert_model, revert_model
from tests.tiny_models import tiny_input_ids, tiny_model

pytestmark = pytest.mark.core

CONFIG = LambdaConfig(8, 3, 8)
RELEASE = f"Transformers {transformers.__version__}"
IDS = tiny_input_ids(2, 20)
LAYERS = {"llama": LlamaDecoderLayer, "mpt": MptBlock}


def hand_over(monkeypatch, kind: type[nn.Module], change) -> None:
    """Have decoder layers of that kind pass on the keyword arguments that `change` makes of theirs."""
    original = kind.forward
    monkeypatch.setattr(kind, "forward", lambda self, hidden, **inputs: original(self, hidden, **change(inputs)))


def without_cache(inputs: dict) -> dict:
    return {name: value for name, value in inputs.items() if name not in LAYER_CACHE_NAMES}


def without_cache_in_layer_1():
    """The second of two layers loses it, in every forward."""
    calls = iter(range(10**6))
    return lambda inputs: without_cache(inputs) if next(calls) % 2 else inputs


@pytest.mark.parametrize("model_type", LAYERS)
@pytest.mark.parametrize("given", [True, False], ids=["given", "made"])
@torch.no_grad()
def test_a_cache_that_does_not_reach_the_attention_is_an_error(monkeypatch, model_type, given):
    hand_over(monkeypatch, LAYERS[model_type], without_cache)
    model = convert_model(tiny_model(model_type), CONFIG)
    inputs = with_cache(model, LambdaCache(CONFIG, 2)) if given else {"use_cache": True}
    with pytest.raises(RuntimeError, match=rf"2 of 2 layers.*{RELEASE}.*5\.17"):
        model(IDS, **inputs)
    model(IDS, use_cache=False)


@pytest.mark.parametrize("name", [assumptions.LAYER_TYPES, assumptions.WINDOW])
def test_a_window_whose_place_in_the_configuration_is_renamed_is_an_error(name):
    fields = {"model_type": "qwen2", assumptions.LAYER_TYPES: [assumptions.SLIDING], assumptions.WINDOW: 4}
    assert assumptions.own_window(SimpleNamespace(**fields), 0) == 4
    del fields[name]
    with pytest.raises(TypeError, match=rf"qwen2 in {RELEASE} has no {name}; supported are.*5\.17"):
        assumptions.own_window(SimpleNamespace(**fields), 0)


@torch.no_grad()
def test_nor_may_a_single_layer_do_without(monkeypatch):
    hand_over(monkeypatch, LlamaDecoderLayer, without_cache_in_layer_1())
    with pytest.raises(RuntimeError, match=r"1 of 2 layers \(the first is 1\)"):
        convert_model(tiny_model(), CONFIG)(IDS, use_cache=True)


def without_telling(monkeypatch) -> None:
    """A static step is attended, but not against the cache that the model was given."""
    original = LlamaDecoderLayer.forward

    def forward(self, hidden, **inputs):
        name = next(name for name in LAYER_CACHE_NAMES if name in inputs)
        other = copy.copy(inputs[name])
        other.layers = [copy.copy(layer) for layer in other.layers]
        return original(self, hidden, **{**inputs, name: other})

    monkeypatch.setattr(LlamaDecoderLayer, "forward", forward)


@pytest.mark.parametrize("change", [without_telling, lambda patch: hand_over(patch, LlamaDecoderLayer, without_cache)])
def test_nor_may_a_static_step(monkeypatch, change):
    model, cache = convert_model(tiny_model(), CONFIG), LambdaCache(CONFIG, 2)
    with torch.no_grad():
        model(IDS, **with_cache(model, cache))
    change(monkeypatch)
    with pytest.raises(RuntimeError, match="did not advance"):
        DecodeGraph(model, cache).step(IDS[:, :1])


def test_nor_may_a_compiled_one(monkeypatch):
    torch._dynamo.reset()
    model, cache = convert_model(tiny_model(), CONFIG), LambdaCache(CONFIG, 2)
    with torch.no_grad():
        model(IDS, **with_cache(model, cache))
    hand_over(monkeypatch, LlamaDecoderLayer, without_cache)
    with pytest.raises((RuntimeError, torch._dynamo.exc.TorchDynamoException)):
        DecodeGraph(model, cache, backend=CompileCounterWithBackend("eager")).step(IDS[:, :1])


@pytest.mark.parametrize("tokens", [1, 20])
@torch.no_grad()
def test_an_argument_that_the_attention_does_not_know_is_an_error(monkeypatch, tokens):
    hand_over(monkeypatch, LlamaDecoderLayer, lambda inputs: {**inputs, "kv_store": object()})
    model = convert_model(tiny_model(), CONFIG)
    with pytest.raises(TypeError, match=f"LlamaAttention is given 'kv_store'.*{RELEASE}"):
        model(IDS[:, :tokens])


@torch.no_grad()
def test_one_that_is_none_is_not(monkeypatch):
    hand_over(monkeypatch, LlamaDecoderLayer, lambda inputs: {**inputs, "kv_store": None})
    convert_model(tiny_model(), CONFIG)(IDS)


@pytest.mark.parametrize("model_type", ["llama", "gptj", "mpt", "gpt_neox"])
@torch.no_grad()
def test_what_a_user_gives_and_the_model_does_not_know_is_an_error(model_type):
    model = convert_model(tiny_model(model_type), CONFIG)
    with pytest.raises(TypeError, match="'cu_seq_lens_q'"):
        model.base_model(IDS, cu_seq_lens_q=torch.tensor([0, 10, 20]))


@pytest.mark.parametrize("model_type", ["llama", "gptj", "mpt", "gpt_neox"])
@torch.no_grad()
def test_two_caches_are_one_too_many(model_type):
    model = convert_model(tiny_model(model_type), CONFIG)
    for part in (model, model.base_model):
        with pytest.raises(ValueError, match="two caches"):
            part(IDS, cache=LambdaCache(CONFIG, 2), past_key_values=LambdaCache(CONFIG, 2))
    revert_model(model)
    assert not model._forward_pre_hooks and not model.base_model._forward_hooks


@torch.no_grad()
def test_a_cache_that_a_forward_was_interrupted_in_is_refused(monkeypatch):
    model, cache = convert_model(tiny_model(), CONFIG), LambdaCache(CONFIG, 2)
    model(IDS, **with_cache(model, cache))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(model.base_model.layers[1], "forward", interrupt)
        model(IDS, **with_cache(model, cache))
    with pytest.raises(ValueError, match="a forward was interrupted"):
        model(IDS, **with_cache(model, cache))


def interrupt(*args, **inputs):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("cache", "words"),
    [
        (((torch.zeros(1),),), "not a tuple"),
        (LambdaCache(CONFIG, 1), "made for 1 layers, and the model has 2"),
        (LambdaCache(CONFIG, 3), "made for 3 layers, and the model has 2"),
    ],
    ids=["tuple", "fewer layers", "more layers"],
)
@torch.no_grad()
def test_a_cache_that_does_not_fit_is_one_sentence(cache, words):
    model = convert_model(tiny_model(), CONFIG)
    with pytest.raises(ValueError, match=words):
        model(IDS, **with_cache(model, cache))


@torch.no_grad()
def test_another_cache_than_the_models_is_an_error(monkeypatch):
    hand_over(monkeypatch, LlamaDecoderLayer, with_another_cache)
    with pytest.raises(RuntimeError, match=f"layer 0 is handed another cache.*{RELEASE}"):
        convert_model(tiny_model(), CONFIG)(IDS, use_cache=True)


def with_another_cache(inputs: dict) -> dict:
    return {name: DynamicCache() if name in LAYER_CACHE_NAMES else value for name, value in inputs.items()}


@torch.no_grad()
def test_an_argument_without_a_name_is_an_error():
    model = convert_model(tiny_model(), CONFIG)
    with pytest.raises(TypeError, match=f"LlamaAttention is given 'argument 2 without a name'.*{RELEASE}"):
        model.base_model.layers[0].self_attn(torch.zeros(1, 3, 32), torch.ones(1))


def test_gradient_checkpointing_is_refused_with_its_reason():
    model = convert_model(tiny_model(), CONFIG).train()
    model.gradient_checkpointing_enable()
    with pytest.raises(ValueError, match=r"for inference: call model\.eval"):
        model(IDS, use_cache=True)


@torch.no_grad()
def test_a_mask_that_is_no_tensor_is_one_sentence():
    with pytest.raises(ValueError, match="padding mask of shape.*not dict"):
        convert_model(tiny_model(), CONFIG)(IDS, attention_mask={"full_attention": torch.ones(2, 20)})


@torch.no_grad()
def test_nor_may_a_layer_hand_over_two(monkeypatch):
    def twice(inputs):
        name = next(name for name in LAYER_CACHE_NAMES if name in inputs)
        return {**inputs, name: inputs[name], "layer_past": LambdaCache(CONFIG, 2)}

    hand_over(monkeypatch, LlamaDecoderLayer, twice)
    with pytest.raises(ValueError, match="two caches"):
        convert_model(tiny_model(), CONFIG)(IDS, use_cache=True)


def test_an_attention_module_with_a_new_part_is_refused():
    model = tiny_model()
    for layer in model.base_model.layers:
        layer.self_attn.q_norm = nn.LayerNorm(8)
    with pytest.raises(TypeError, match=f"LlamaAttention of {RELEASE} is made of.*q_norm"):
        convert_model(model, CONFIG)
    with torch.no_grad():
        model(IDS)  # and the model is as it was


def test_a_forward_without_a_cache_argument_is_refused(monkeypatch):
    model = tiny_model()
    monkeypatch.setattr(assumptions, "CACHE_NAMES", ("kv_store",))
    with pytest.raises(TypeError, match="takes its cache under none of the names kv_store"):
        convert_model(model, CONFIG)


def test_an_older_transformers_is_refused(monkeypatch):
    monkeypatch.setattr(assumptions, "VERSION", "5.16.1")
    with pytest.raises(ImportError, match=r"5\.17.*5\.16\.1"):
        convert_model(tiny_model(), CONFIG)
    with pytest.raises(UserError, match=r"5\.17.*5\.16\.1"):  # of a vanilla model, too, and in one sentence
        get_model(ModelSpec("constant_model"))


def test_an_older_torch_is_refused(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.10.0+cpu")
    with pytest.raises(ImportError, match=r"torch 2\.11.*2\.10\.0"):
        convert_model(tiny_model(), CONFIG)


def test_a_newer_one_is_said_once(monkeypatch, caplog):
    monkeypatch.setattr(assumptions, "VERSION", "5.99.0.dev0")
    assumptions._say_unknown_version.cache_clear()
    with caplog.at_level(logging.WARNING):
        convert_model(convert_model(tiny_model(), CONFIG), CONFIG)
    assert [record.message for record in caplog.records if "5.99.0" in record.message] == [caplog.messages[0]]
    assumptions._say_unknown_version.cache_clear()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("model_type", LAYERS)
def test_our_own_calls_are_not_those_that_a_release_deprecates(model_type, caplog):
    from models.scoring.stream_scorer import StreamScorer

    model = convert_model(tiny_model(model_type), CONFIG)
    with torch.no_grad(), caplog.at_level(logging.WARNING, logger="transformers"):
        scorer = StreamScorer(model)
        for part in IDS.split(7, dim=1):
            scorer(part)
        cache = LambdaCache(CONFIG, 2)
        model(IDS, **with_cache(model, cache))
        DecodeGraph(model, cache).step(IDS[:, :1])
        model.generate(IDS, max_new_tokens=2, pad_token_id=0, **{OUTPUT_CACHE: LambdaCache(CONFIG, 2)})
    assert not [message for message in caplog.messages if "deprecated" in message]
