"""What every supported type passes, on the smallest random model of its configuration.

Texts are long as well as short: a near miss, such as a scale that follows the position, is equal at 20 tokens. The
dense definition is Transformers' own attention, handed the mask of Λ, and what limits distances is written out here.
"""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from models.assumptions import ATTENTION_MASK, POSITION_IDS, WINDOWED, forward_names, with_cache
from models.attention.config import AttentionLayer, LambdaConfig
from models.attention.decode.cache import LambdaCache
from models.attention.positions import RotaryPositions
from models.attention.ragged import RealTokens
from models.converting import attention_module
from models.converting.wrappers import text_model
from models.decode_graph import DecodeGraph
from models.model_base import convert_model, extend_vanilla_positions, is_converted, revert_model, supported_model_types
from tests.models.every_type import EVERY_TYPE, empty_cache, rounding, types
from tests.tiny_models import tiny_input_ids, tiny_model, type_of

pytestmark = pytest.mark.core

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
LENGTHS = (20, 90, 300)
COVERING = LambdaConfig(LENGTHS[-1], 4, LENGTHS[-1])
LAMBDA = LambdaConfig(12, 3, 12)
IDS = tiny_input_ids(2, 90)
CLOSE, VANILLA_CLOSE = 3e-6, 1e-5
"""Of the largest logit, in float32; and beyond 20 tokens, where vanilla angles in float32 are off by as much."""
FAR, FAR_CLOSE = 20_000, 5e-3
"""A position where these angles are off by far more, and the bound on the mean of what that makes of the logits."""
BFLOAT16_BIASES = ("falcon", "falcon:separate_heads")
"""Transformers rounds their ALiBi to 8 bits: from distance 257 on neighbours have one bias."""
PLACED = ("beam", "ministral3", "hunyuan_v1_dense", "hunyuan_v1_dense:alpha", "hunyuan_v1_moe")
"""Where a query stands in the text changes their scores, not only how far away the keys are."""


@torch.no_grad()
def logits(model, ids: Tensor = IDS, **inputs) -> Tensor:
    return model(ids, **inputs).logits


def close(found: Tensor, expected: Tensor, tolerance: float = CLOSE, model_type: str | None = None) -> None:
    tolerance *= rounding(model_type)
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * expected.abs().max().item())


def lambda_mask(config: LambdaConfig, tokens: int) -> Tensor:
    """bool `[1, 1, n, n]`: which keys a query attends to."""
    distance = torch.arange(tokens)[:, None] - torch.arange(tokens)
    attended = (distance >= 0) & ((distance < config.local_branch) | (torch.arange(tokens) < config.global_branch))
    return attended[None, None]


@EVERY_TYPE
def test_equals_the_vanilla_model_while_the_window_covers_the_text(model_type):
    for tokens in LENGTHS[: 2 if model_type in BFLOAT16_BIASES else 3]:
        model, ids = extend_vanilla_positions(tiny_model(model_type)), tiny_input_ids(1, tokens)
        expected = logits(model, ids)
        tolerance = CLOSE if tokens == LENGTHS[0] else VANILLA_CLOSE
        close(logits(convert_model(revert_model(model), COVERING), ids), expected, tolerance, model_type)


@EVERY_TYPE
def test_positions_far_beyond_change_nothing_that_the_vanilla_model_knows_of(model_type):
    model = tiny_model(model_type)
    if POSITION_IDS not in forward_names(text_model(model)) or model_type in ("codegen", "gptj"):
        pytest.skip("the vanilla model has no position that far")
    if model_type in PLACED:
        pytest.skip("they do change its scores: tests/models/test_placed_queries.py")
    far = logits(model, **{POSITION_IDS: torch.arange(FAR, FAR + IDS.shape[1])[None]})
    assert (logits(convert_model(model, COVERING)) - far).abs().mean() < FAR_CLOSE * far.abs().mean()


@EVERY_TYPE
def test_equals_the_mask_of_lambda_in_the_vanilla_attention_without_a_limit(model_type):
    if model_type in ("bloom", "mpt", *BFLOAT16_BIASES):
        pytest.skip("its own attention adds no mask of four dimensions to its biases")
    config = LambdaConfig(LAMBDA.local_branch, LAMBDA.global_branch, None)
    model = extend_vanilla_positions(tiny_model(model_type))
    mask = torch.zeros(1).masked_fill(~lambda_mask(config, IDS.shape[1]), torch.finfo(torch.float32).min)
    expected = logits(model, **{ATTENTION_MASK: mask})
    assert (expected - logits(model)).abs().max() > 1e-2 * expected.abs().max()
    close(logits(convert_model(revert_model(model), config)), expected, VANILLA_CLOSE, model_type)


@EVERY_TYPE
def test_equals_the_dense_definition_beyond_it_in_every_way_of_reading(model_type, monkeypatch):
    model = convert_model(tiny_model(model_type), LAMBDA)
    with monkeypatch.context() as patch:
        patch.setattr(attention_module, "attend_batch", dense_attention)
        expected = logits(model, use_cache=False)
    close(logits(model), expected, model_type=model_type)

    cache, parts = empty_cache(model), []
    for part in IDS.split([30, 1, 1, 40, 1, 17], dim=1):
        parts.append(logits(model, part, **with_cache(model, cache)))
    close(torch.cat(parts, 1), expected, model_type=model_type)

    ids, mask = torch.cat([IDS, IDS[:, :5]], 1), torch.ones(2, 95, dtype=torch.long)
    mask[0, :5], mask[1, 90:], ids[0, 5:] = 0, 0, IDS[0]
    padded = logits(model, ids, **{ATTENTION_MASK: mask})
    close(torch.stack([padded[0, 5:], padded[1, :90]]), expected, model_type=model_type)


@pytest.mark.parametrize("model_type", [*types(within=WINDOWED), *types(within=("llama", "minimax_m2", "seed_oss"))])
def test_layers_with_a_window_of_their_own_keep_it_or_take_lambda(model_type):
    """A configuration that names a window and does not heed it has none."""
    windowed = {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 1}
    model = tiny_model(model_type, **windowed)
    vanilla, covering = logits(model), LambdaConfig(90, 4, 90, window_layers="lambda")
    assert ((vanilla - logits(tiny_model(model_type))).abs().max() > 1e-2) == (type_of(model_type) in WINDOWED)
    close(logits(convert_model(model, LambdaConfig(90, 4, 90))), vanilla, VANILLA_CLOSE)

    whole, parts = logits(convert_model(model, LAMBDA)), []
    cache = LambdaCache(LAMBDA, 2)
    for part in IDS.split([30, 1, 40, 1, 18], dim=1):
        parts.append(logits(model, part, **with_cache(model, cache)))
    close(torch.cat(parts, 1), whole)
    graph = DecodeGraph(model, cache)
    close(graph.step(IDS[:, :1]), logits(model, torch.cat([IDS, IDS[:, :1]], 1))[:, -1:])

    attending = text_model(convert_model(model, covering)).lambda_conversion.layer_configs
    assert attending == [covering, covering]


@EVERY_TYPE
def test_generates_is_saved_loaded_converted_again_and_reverted(model_type, tmp_path):
    model = tiny_model(model_type)
    ids = IDS[:, :40]  # within the tables of positions that some have
    vanilla, weights = logits(model, ids), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    convert_model(model, LAMBDA)
    generated = model.generate(IDS, max_new_tokens=4, do_sample=False, pad_token_id=0, eos_token_id=None)
    assert torch.equal(generated[:, -1], logits(model, generated[:, :-1])[:, -1].argmax(-1))

    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert not is_converted(loaded)
    close(logits(convert_model(loaded)), logits(model), model_type=model_type)

    revert_model(model)
    assert torch.equal(logits(model, ids), vanilla) and not hasattr(model.config, "lambda_attention")
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


def test_the_log_says_which_layers_are_which(caplog):
    kinds = {"layer_types": ["sliding_attention"] * 3 + ["full_attention", "sliding_attention"], "sliding_window": 8}
    with caplog.at_level("INFO"):
        convert_model(tiny_model("cohere2", num_hidden_layers=5, **kinds), LambdaConfig(20, 4, 20))
    assert "1 of 5 layers, a window of their own (8 tokens) in layers 0-2, 4" in caplog.text


def test_the_table_of_the_docs_has_every_type_and_no_other():
    rows = re.findall(r"^\|[^|]*\(`models/\w+\.py`\) \| ([^|]*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    named = [name for row in rows for name in row.split(", ")]
    assert sorted(named) == supported_model_types()


def dense_attention(
    query: Tensor, key: Tensor, value: Tensor, layer: AttentionLayer, past: None, real: RealTokens
) -> Tensor:
    """`attend_batch` from the definition, in float64; shapes as there, without a cache and without padding."""
    tokens, group = query.shape[2], query.shape[1] // key.shape[1]
    wide, keys, values = (x.double() for x in (query, key, value))
    keys, values = keys.repeat_interleave(group, 1), values.repeat_interleave(group, 1)
    distance = torch.arange(tokens)[:, None] - torch.arange(tokens)
    limit = layer.config.limit_distance
    felt = (distance if limit is None else distance.clamp(max=limit)).clamp(min=0).double()
    scores = products(wide, keys, felt, layer.positions) * layer.scale
    if layer.positions.slopes is not None:
        scores = scores - layer.positions.slopes.double()[:, None, None] * felt
    if layer.soft_cap is not None:
        scores = layer.soft_cap * (scores / layer.soft_cap).tanh()
    scores = scores.masked_fill(~lambda_mask(layer.config, tokens), float("-inf"))
    if layer.sink_logit is not None:
        learned = layer.sink_logit.double()[:, None, None].expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, learned], -1)
    return (scores.softmax(-1)[..., :tokens] @ values).to(value.dtype)


def products(query: Tensor, key: Tensor, felt: Tensor, positions) -> Tensor:
    """`(R_felt q)·k`, `[B, H, n, n]`, in the complex plane; the features that are not rotated as they are."""
    if not isinstance(positions, RotaryPositions):
        return query @ key.mT
    half = positions.inv_freq.numel()
    first, second = slice(0, half), slice(half, 2 * half)
    if positions.interleaved:
        first, second = slice(0, 2 * half, 2), slice(1, 2 * half, 2)
    query_pairs, key_pairs = (torch.complex(x[..., first], x[..., second]) for x in (query, key))
    turns = torch.exp(1j * felt[..., None] * positions.inv_freq)
    scores = torch.einsum("bhif,bhjf,ijf->bhij", query_pairs, key_pairs.conj(), turns).real * positions.scaling**2
    rest = slice(2 * half, None)
    return scores + query[..., rest] @ key[..., rest].mT
