"""Types whose scores follow the position of a query in the text, against their own modules, pair by pair."""

import math

import pytest
import torch
from torch import Tensor

from models.attention.config import LambdaConfig
from models.attention.decode.cache import LambdaCache
from models.attention.ragged import RealTokens
from models.attention.temperature import warmed
from models.attention.text_positions import text_positions
from models.model_base import convert_model
from tests.models.every_type import types
from tests.tiny_models import tiny_input_ids, tiny_model

pytestmark = pytest.mark.core

TOKENS = 40
IDS = tiny_input_ids(1, TOKENS)
CONFIGS = [
    LambdaConfig(12, 3, 12),
    LambdaConfig(12, 3, 7),
    LambdaConfig(12, 3, 20),
    LambdaConfig(12, 3, None),
    LambdaConfig(12, 3, None, sink_positions="cache"),
]
"""The limit at the window's end, within it, beyond it; none; and positions counted inside the cache."""


def merged_heads(model, ids: Tensor) -> Tensor:
    """The first layer's attention, `[n, Hq, d]`, as its output projection is given it."""
    seen, module = [], model.model.layers[0].self_attn
    handle = module.o_proj.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        model(ids)
    handle.remove()
    return seen[0][0].unflatten(-1, (-1, module.head_dim))


def pair_by_pair(model, config: LambdaConfig) -> Tensor:
    """The same from the definition, for each query and key apart."""
    layer, output = model.model.layers[0], []
    module = layer.self_attn
    with torch.no_grad():
        hidden = layer.input_layernorm(model.model.embed_tokens(IDS))[0]
        query, key, value = (x(hidden).unflatten(-1, (-1, module.head_dim)) for x in projections(module))
        for i in range(TOKENS):
            attended = [j for j in range(i + 1) if j < config.global_branch or i - j < config.local_branch]
            scores, stands = [], i
            if config.limit_distance is not None:
                stands = min(i, config.limit_distance)
            elif config.latest_position is not None:
                stands = min(i, config.latest_position)
            encoded = encode_query(model, module, query[i], stands, i)
            for j in attended:
                felt = i - j if config.limit_distance is None else min(i - j, config.limit_distance)
                if config.latest_position is not None and i - j >= config.local_branch:
                    felt = stands - j
                own = encode_key(model, module, key[j], stands - felt).repeat_interleave(2, 0)
                scores.append((encoded * own).sum(-1) * module.scaling)
            weights = torch.stack(scores).softmax(0)
            output.append(torch.einsum("jh,jhd->hd", weights, value[attended].repeat_interleave(2, 1)))
    return torch.stack(output)


def encode_query(model, module, query: Tensor, stands: int, position: int) -> Tensor:
    """HunYuan's own norm behind its own rotation; Ministral 3's temperature, of the position in the text."""
    if model.config.model_type == "ministral3":
        return turned(model, query, stands) * (1 + 0.5 * math.log(1 + position // 16))
    return module.query_layernorm(turned(model, query, stands))


def encode_key(model, module, key: Tensor, stands: int) -> Tensor:
    encoded = turned(model, key, stands)
    return encoded if model.config.model_type == "ministral3" else module.key_layernorm(encoded)


def projections(module):
    return module.q_proj, module.k_proj, module.v_proj


def turned(model, x: Tensor, position: int) -> Tensor:
    """`[H, d]` rotated by the model's own frequencies."""
    half = x.shape[-1] // 2
    pairs = torch.complex(x[:, :half].double(), x[:, half:].double())
    pairs = pairs * torch.exp(1j * position * model.model.rotary_emb.inv_freq.double())
    return torch.cat([pairs.real, pairs.imag], -1).float() * model.model.rotary_emb.attention_scaling


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("model_type", types(within=("hunyuan_v1_dense", "hunyuan_v1_moe", "ministral3")))
def test_scores_are_those_of_each_pair_where_the_method_puts_it(model_type, config):
    model = tiny_model(model_type)
    expected = pair_by_pair(model, config)
    found = merged_heads(convert_model(model, config), IDS)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("model_type", types(within=("hunyuan_v1_dense",)))
def test_weights_behind_the_rotation_make_scores_follow_positions(model_type):
    """Which is why a query must stand somewhere; with weights of one, as NanoChat has them, it need not."""
    model, far = tiny_model(model_type), torch.arange(TOKENS)[None] + 1000
    with torch.no_grad():
        here, there = model(IDS).logits, model(IDS, position_ids=far).logits
        assert (here - there).abs().max() > 1e-2 * here.abs().max()
        for layer in model.model.layers:
            layer.self_attn.query_layernorm.weight.fill_(1.0)
            layer.self_attn.key_layernorm.weight.fill_(1.0)
        here, there = model(IDS).logits, model(IDS, position_ids=far).logits
    torch.testing.assert_close(here, there, rtol=0, atol=1e-3 * here.abs().max().item())


def test_the_temperature_rises_by_steps():
    query, positions = torch.ones(1, 2, 5, 3), torch.tensor([[0, 15, 16, 31, 32]])
    factors = warmed(query, positions, 0.5, 16)[0, 0, :, 0]
    torch.testing.assert_close(factors, 1 + 0.5 * torch.tensor([1.0, 1.0, 2.0, 2.0, 3.0]).log())
    assert warmed(query, positions, 0.5, 16, first=1)[0, 0, 1, 0] == factors[2]
    assert warmed(query.bfloat16(), positions, 0.5, 16).dtype == torch.bfloat16


def test_positions_are_counted_from_the_first_real_token_and_on_from_the_cache():
    query = torch.zeros(2, 1, 4, 2)
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]])
    found = text_positions(query, None, RealTokens.from_mask(mask), None)
    assert found[0, 2:].tolist() == [0, 1] and found[1, :3].tolist() == [0, 1, 2]
    (layer,) = LambdaCache(LambdaConfig(8, 2, 8), 1).layers
    layer.seen = [7, 9]
    assert text_positions(query[:, :, :1], layer, RealTokens(), None).tolist() == [[7], [9]]
    layer.seen = [9, 9]
    assert text_positions(query, layer, RealTokens(), None).tolist() == [[9, 10, 11, 12]]
    found = text_positions(query, layer, RealTokens.from_mask(mask), None)
    assert found[0, 2:].tolist() == [9, 10] and found[1, :3].tolist() == [9, 10, 11]
