"""Decoding with static shapes gives what an ordinary forward gives, and torch.compile takes it as one graph."""

import copy

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from models.assumptions import with_cache
from models.attention.config import LambdaConfig, TopK
from models.attention.decode.cache import LambdaCache
from models.decode_graph import DecodeGraph
from models.model_base import convert_model
from tests.models.every_type import STATIC_TYPES
from tests.tiny_models import tiny_input_ids, tiny_model

pytestmark = pytest.mark.core

LENGTH, LAYERS = 45, 2
CONFIG = LambdaConfig(8, 3, 8)
CONFIGS = {
    "limit is the window": CONFIG,
    "limit inside the window": LambdaConfig(8, 3, 5),
    "limit beyond the window": LambdaConfig(8, 3, 20),
    "no limit": LambdaConfig(8, 3, None),
    "positions in the cache": LambdaConfig(8, 3, None, sink_positions="cache"),
    "no first tokens": LambdaConfig(8, 0, 8),
    "more first tokens than window": LambdaConfig(4, 10, 4),
}
IDS = tiny_input_ids(2, LENGTH)
CLOSE = {"rtol": 0, "atol": 1e-5}


def prefilled(model, config: LambdaConfig, tokens: int, ids=IDS, **inputs) -> LambdaCache:
    cache = LambdaCache(config, LAYERS)
    if tokens:
        with torch.no_grad():
            model(ids[:, :tokens], **with_cache(model, cache), **inputs)
    return cache


def stepped(graph: DecodeGraph, tokens: range, ids=IDS) -> torch.Tensor:
    return torch.cat([graph.step(ids[:, token : token + 1]) for token in tokens], 1)


@torch.no_grad()
def logits(model, ids=IDS, **inputs) -> torch.Tensor:
    return model(ids, **inputs).logits


def assert_decodes(model, config: LambdaConfig, start: int) -> None:
    expected = logits(model)
    cache = prefilled(model, config, start)
    found = stepped(DecodeGraph(model, cache), range(start, LENGTH))
    torch.testing.assert_close(found / expected.abs().max(), expected[:, start:] / expected.abs().max(), **CLOSE)
    assert cache.get_seq_length() == LENGTH and all(layer.seen == [LENGTH, LENGTH] for layer in cache.layers)


@pytest.mark.parametrize("start", [0, 5, 19], ids=["empty", "short", "wrapped"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("model_type", ["llama", "gptj", "mpt"])
def test_is_as_the_ordinary_forward(model_type, config, start):
    assert_decodes(convert_model(tiny_model(model_type), config), config, start)


@STATIC_TYPES
def test_every_family(model_type):
    assert_decodes(convert_model(tiny_model(model_type), CONFIG), CONFIG, 19)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("model_type", ["llama", "gptj", "mpt", "gpt_neox", "phi3"])
def test_a_captured_step_is_as_the_ordinary_forward(model_type):
    model, ids = convert_model(tiny_model(model_type), CONFIG).cuda(), IDS.cuda()
    expected = logits(model, ids)
    graph = DecodeGraph(model, prefilled(model, CONFIG, 5, ids))
    torch.testing.assert_close(stepped(graph, range(5, LENGTH), ids), expected[:, 5:], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_ordinary_forwards_and_static_steps_take_turns():
    model = convert_model(tiny_model(), CONFIG)
    cache, parts = LambdaCache(CONFIG, LAYERS), []
    graph = DecodeGraph(model, cache)
    for start, stop, static in ((0, 5, 0), (5, 8, 1), (8, 9, 0), (9, 20, 1), (20, 40, 0), (40, 45, 1)):
        ordinary = logits(model, IDS[:, start:stop], **with_cache(model, cache)) if not static else None
        parts.append(stepped(graph, range(start, stop)) if static else ordinary)
    torch.testing.assert_close(torch.cat(parts, 1), logits(model), **CLOSE)


def test_a_cache_whose_rows_are_selected_goes_on():
    model = convert_model(tiny_model(), CONFIG)
    cache = prefilled(model, CONFIG, 5)
    graph = DecodeGraph(model, cache)
    before = stepped(graph, range(5, 20))
    cache.reorder_cache(torch.tensor([1, 1]))
    swapped = stepped(graph, range(20, LENGTH), IDS[[1, 1]])
    expected = logits(model)
    torch.testing.assert_close(before, expected[:, 5:20], **CLOSE)
    torch.testing.assert_close(swapped, expected[[1, 1], 20:], **CLOSE)


def test_rows_at_different_positions_are_each_as_alone():
    model, mask = convert_model(tiny_model(), CONFIG), torch.ones(2, 14, dtype=torch.int64)
    mask[0, :9] = 0
    graph = DecodeGraph(model, prefilled(model, CONFIG, 14, attention_mask=mask))
    found = stepped(graph, range(14, LENGTH))
    for row, start in ((0, 9), (1, 0)):
        alone = logits(model, IDS[row : row + 1, start:])
        torch.testing.assert_close(found[row], alone[0, 14 - start :], **CLOSE)


@pytest.mark.parametrize("model_type", ["llama", "mpt"])
def test_far_along_a_stream_it_is_as_near_its_beginning(model_type):
    """A limit hides how far away the first tokens are, and after two windows nothing of the old window is left."""
    model = convert_model(tiny_model(model_type), CONFIG)
    near = prefilled(model, CONFIG, 16)
    far = copy.deepcopy(near)
    for layer in far.layers:
        layer.seen = [2 * 10**8] * 2
    outputs = [stepped(DecodeGraph(model, cache), range(16, LENGTH))[:, 16:] for cache in (near, far)]
    torch.testing.assert_close(*outputs, **CLOSE)
    assert far.layers[0].seen == [2 * 10**8 + LENGTH - 16] * 2


def test_bfloat16_is_as_the_ordinary_step():
    model = convert_model(tiny_model().bfloat16(), CONFIG)
    ordinary = prefilled(model, CONFIG, 5)
    expected = torch.cat([logits(model, IDS[:, i : i + 1], **with_cache(model, ordinary)) for i in range(5, 30)], 1)
    found = stepped(DecodeGraph(model, prefilled(model, CONFIG, 5)), range(5, 30))
    assert found.dtype == torch.bfloat16
    assert (found - expected).abs().float().mean() < 0.02 * expected.abs().float().mean()


def test_begun_in_inference_mode_it_goes_on_outside_of_it():
    model = convert_model(tiny_model(), CONFIG)
    with torch.inference_mode():
        graph = DecodeGraph(model, LambdaCache(CONFIG, LAYERS))
        parts = [stepped(graph, range(0, 12))]
    parts.append(stepped(graph, range(12, LENGTH)))
    torch.testing.assert_close(torch.cat(parts, 1), logits(model), **CLOSE)


DYNAMIC = {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}}


@pytest.mark.parametrize(("model_type", "changes"), [("llama", {}), ("llama", DYNAMIC), ("mpt", {})])
def test_torch_compile_takes_the_whole_step_as_one_graph_for_all_tokens(model_type, changes):
    """Also where the model's own rotary embedding would look at a position on the host."""
    torch._dynamo.reset()
    model, counter = convert_model(tiny_model(model_type, **changes), CONFIG), CompileCounterWithBackend("eager")
    graph = DecodeGraph(model, prefilled(model, CONFIG, 5), backend=counter)
    torch.testing.assert_close(stepped(graph, range(5, LENGTH)), logits(model)[:, 5:], rtol=1e-5, atol=1e-5)
    assert counter.frame_count == 1


@pytest.mark.parametrize(
    ("prepare", "config", "named"),
    [
        (lambda model: None, CONFIG, "convert it first"),
        (lambda model: convert_model(model, LambdaConfig(9, 3, 9)), CONFIG, "local_branch=9"),
        (lambda model: convert_model(model, LambdaConfig(8, 3, 8, 1.0)), LambdaConfig(8, 3, 8, 1.0), "middle"),
        (lambda model: convert_model(model, LambdaConfig(8, 3, 8, top_k=TopK(2, 5))), CONFIG, "middle"),
    ],
)
def test_what_it_cannot_decode_is_refused(prepare, config, named):
    model = tiny_model()
    prepare(model)
    with pytest.raises(ValueError, match=named):
        DecodeGraph(model, LambdaCache(config, LAYERS))


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (2, 2)])
def test_a_batch_of_another_size_is_refused(shape):
    model = convert_model(tiny_model(), CONFIG)
    graph = DecodeGraph(model, prefilled(model, CONFIG, 5))
    with pytest.raises(ValueError, match="2 rows"):
        graph.step(torch.zeros(shape, dtype=torch.int64))
