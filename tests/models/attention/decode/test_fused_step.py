"""The static step of a GPU, which is fused there, beside the one that runs operation by operation."""

import pytest
import torch
import torch._dynamo
from torch._dynamo.testing import CompileCounterWithBackend

from models.attention import compiled
from models.attention.config import AttentionLayer, LambdaConfig
from models.attention.decode import fused_step
from models.attention.decode.cache import LambdaLayer
from models.attention.decode.step import Heads, decode_step
from models.attention.positions import AlibiPositions, RotaryPositions
from models.decode_graph import DecodeGraph
from models.lambda_attention import lambda_attention
from models.model_base import convert_model
from tests.fake_cuda import GPU, fake_cuda
from tests.models.test_decode_graph import CONFIG, CONFIGS, IDS, LENGTH, prefilled, stepped
from tests.tiny_models import tiny_model


@pytest.fixture
def fused(monkeypatch) -> list[str]:
    """What is fused on a GPU is computed by the same functions, not compiled; gives their names."""
    called = []

    def run(function, fuse, *args):
        called.append(function.__name__)
        return function(*args)

    monkeypatch.setattr(AttentionLayer, "fuses", lambda layer, x: layer.config.compiled and x.shape[-2] == 1)
    monkeypatch.setattr(fused_step, "run_fused", run)
    return called


@pytest.mark.parametrize("start", [0, 5, 19], ids=["empty", "short", "wrapped"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("model_type", ["llama", "gptj", "mpt", "gpt_oss", "gemma2", "cohere2"])
def test_is_as_the_ordinary_forward(model_type, config, start, fused):
    model = convert_model(tiny_model(model_type), config)
    with torch.no_grad():
        expected = model(IDS).logits
    found = stepped(DecodeGraph(model, prefilled(model, config, start)), range(start, LENGTH))
    scale = expected.abs().max()
    torch.testing.assert_close(found / scale, expected[:, start:] / scale, rtol=0, atol=1e-5)
    assert {"_enter", "_weigh", "_leave"} <= set(fused)


def test_bfloat16_is_as_near_to_float32_as_the_ordinary_step(fused):
    """And rows at different positions are each at their own."""
    errors, config = [], LambdaConfig(8, 3, 20)
    exact = convert_model(tiny_model(), config)
    with torch.no_grad():
        expected = exact(IDS).logits
    for is_fused in (True, False):
        model = convert_model(tiny_model().bfloat16(), LambdaConfig(8, 3, 20, compiled=is_fused))
        cache = prefilled(model, model.base_model.lambda_conversion.config, 5)
        found = stepped(DecodeGraph(model, cache), range(5, LENGTH))
        assert found.dtype == torch.bfloat16
        errors.append(float((found.float() - expected[:, 5:]).abs().mean()))
    assert errors[0] <= 1.1 * errors[1]


def launches(alibi: bool = False, shape: tuple[int, int, int] = (9, 3, 64), **config) -> list[str]:
    """Of one layer in a static step, as a GPU would have it."""
    query_heads, key_heads, width = shape
    config = LambdaConfig(**{"local_branch": 4096, "global_branch": 10, "limit_distance": 4096, **config})
    rotary = RotaryPositions(torch.ones(width // 2, dtype=torch.float64))
    layer = AttentionLayer(config, AlibiPositions(torch.ones(query_heads)) if alibi else rotary, width**-0.5)
    with fake_cuda() as launched:
        heads = (query_heads, key_heads, key_heads)
        token = [torch.empty(1, count, 1, width, dtype=torch.bfloat16, device=GPU) for count in heads]
        past = LambdaLayer(config)
        past.lazy_initialization(*token[1:])
        past.make_room(10_000)
        position = torch.zeros(1, dtype=torch.int64, device=GPU)
        counts = Heads(query_heads, key_heads, width, layer.scale)
        past.step = decode_step(config, layer.positions.on(position.device), counts, position, 4096, 10)
        launched.clear()
        lambda_attention(*token, layer, past)
        return launched


@pytest.mark.parametrize(
    ("case", "most"),
    [
        ({}, 7),
        ({"alibi": True}, 7),
        ({"limit_distance": 8192}, 7),
        ({"limit_distance": None, "sink_positions": "cache"}, 7),
        ({"limit_distance": 1000}, 8),
        ({"compiled": False}, 20),
        ({"shape": (32, 32, 128)}, 7),
    ],
)
def test_a_layer_launches_little_besides_its_two_products(case, most):
    """It was 20 to 26. Of the seven one is two kernels and one three, as `make test-sm90` holds."""
    launched = launches(**case)
    assert len(launched) <= most, launched
    assert launched.count("bmm") == (4 if case.get("compiled") is False else 2)


def test_within_a_step_that_is_compiled_as_a_whole_it_is_a_part_of_the_graph(monkeypatch):
    monkeypatch.setattr(AttentionLayer, "fuses", lambda layer, x: x.shape[-2] == 1)
    monkeypatch.setattr(compiled, "_FUSED", {})
    torch._dynamo.reset()
    model, counter = convert_model(tiny_model(), CONFIG), CompileCounterWithBackend("eager")
    with torch.no_grad():
        expected = model(IDS).logits
    graph = DecodeGraph(model, prefilled(model, CONFIG, 5), backend=counter)
    torch.testing.assert_close(stepped(graph, range(5, LENGTH)), expected[:, 5:], rtol=1e-5, atol=1e-5)
    assert counter.frame_count == 1 and not compiled._FUSED
