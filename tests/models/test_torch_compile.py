"""`torch.compile(model)`: the same numbers, with the attention of a converted model left as it is."""

import shutil

import pytest
import torch
from torch import Tensor, nn

from models.assumptions import ATTENTION_MASK, cache_of, with_cache
from models.attention.config import LambdaConfig
from models.attention.decode.cache import LambdaCache
from models.decode_graph import DecodeGraph
from models.model_base import convert_model, is_converted, revert_model
from tests.tiny_models import tiny_input_ids, tiny_model

pytestmark = pytest.mark.core

CONFIG = LambdaConfig(8, 3, 8)
IDS = tiny_input_ids(2, 24)
LAYER = {"llama": {"num_hidden_layers": 1}, "mpt": {"n_layers": 1}}
CLOSE = {"rtol": 0, "atol": 1e-5}


@torch.no_grad()
def in_steps(model: nn.Module, converted: nn.Module) -> Tensor:
    """Logits of a prefill beyond the window, and of one token after the other. converted: names the cache."""
    output = model(IDS[:, :14], use_cache=True)
    parts, cache = [output.logits], cache_of(output)
    for place in range(14, IDS.shape[1]):
        parts.append(model(IDS[:, place : place + 1], **with_cache(converted, cache)).logits)
    return torch.cat(parts, 1)


@torch.no_grad()
def logits(model: nn.Module, **inputs) -> Tensor:
    return model(IDS, **inputs).logits


@pytest.fixture(autouse=True)
def _compiled_anew():
    torch._dynamo.reset()


@pytest.mark.parametrize(("model_type", "backend"), [("llama", "eager"), ("llama", "aot_eager"), ("mpt", "aot_eager")])
def test_forwards_and_steps_are_as_without_it(model_type, backend):
    """With heads in groups, rows with padding, and more steps than torch compiles again for."""
    model, mask = convert_model(tiny_model(model_type, **LAYER[model_type]), CONFIG), torch.ones_like(IDS)
    mask[0, :4] = 0
    whole, padded = logits(model), logits(model, **{ATTENTION_MASK: mask})
    compiled = torch.compile(model, backend=backend)
    assert is_converted(compiled)
    torch.testing.assert_close(logits(compiled), whole, **CLOSE)
    torch.testing.assert_close(logits(compiled, **{ATTENTION_MASK: mask}), padded, **CLOSE)
    torch.testing.assert_close(in_steps(compiled, model), whole, **CLOSE)


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_inductor_too():
    model = convert_model(tiny_model(**LAYER["llama"]), CONFIG)
    torch.testing.assert_close(in_steps(torch.compile(model), model), logits(model), **CLOSE)


def test_one_graph_is_refused_where_attention_runs_as_it_is():
    model = torch.compile(convert_model(tiny_model(**LAYER["llama"]), CONFIG), backend="eager", fullgraph=True)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="disable"):
        logits(model)


def test_converted_and_reverted_behind_it_and_in_static_steps_between():
    """What was compiled before knows of neither."""
    compiled = torch.compile(tiny_model(**LAYER["llama"]), backend="aot_eager")
    vanilla = logits(compiled)
    assert convert_model(compiled, CONFIG) is compiled
    expected = logits(convert_model(tiny_model(**LAYER["llama"]), CONFIG))
    torch.testing.assert_close(logits(compiled), expected, **CLOSE)
    cache = LambdaCache(CONFIG, 1)
    graph, reading = DecodeGraph(compiled, cache), with_cache(tiny_model(), cache)
    with torch.no_grad():
        parts = [compiled(IDS[:, :14], **reading).logits]
        for place in range(14, 20):
            token = IDS[:, place : place + 1]
            parts.append(graph.step(token) if place % 3 else compiled(token, **reading).logits)
    torch.testing.assert_close(torch.cat(parts, 1), expected[:, :20], **CLOSE)
    torch.testing.assert_close(logits(revert_model(compiled)), vanilla, **CLOSE)
