"""Models that methods over all tokens are given to: chunks, padding, generation, caches, windows of their own."""

import copy
import pickle

import pytest
import torch
from transformers import DynamicCache

from models.assumptions import OUTPUT_CACHE, with_cache
from models.attention.bands.cache import FullLayer
from models.attention.bands.config import BandsConfig
from models.attention.decode.cache import LambdaCache, LambdaLayer
from models.attention.decode.cache_state import branch_cache, bytes_per_token, cache_tensors, restore_cache
from models.attention.sequence.group import check_config
from models.conversion import revert_model
from models.decode_graph import DecodeGraph
from models.lambda_attention import LambdaConfig
from models.model_base import convert_model, extend_vanilla_positions, is_converted
from models.scoring.nll_scorer import NllScorer
from models.scoring.stream_scorer import StreamScorer
from tests.tiny_models import lacks_type, tiny_input_ids, tiny_model

METHODS = {
    "self_extend": BandsConfig("self_extend", window=10, group=4),
    "dca": BandsConfig("dca", chunk=12, window=5),
    "rerope": BandsConfig("rerope", window=10, log_scale=20),
    "leaky_rerope": BandsConfig("leaky_rerope", window=10, factor=4.0, log_scale=0),
}
WIDE = {
    "self_extend": BandsConfig("self_extend", window=500, group=4),
    "dca": BandsConfig("dca", chunk=500, window=5),
    "rerope": BandsConfig("rerope", window=500, log_scale=0),
    "leaky_rerope": BandsConfig("leaky_rerope", window=500, factor=4.0, log_scale=0),
}
FAMILIES = (
    "llama",
    "gptj",
    "gpt_neox",
    "gemma2",
    "gpt_oss",
    "mimo_v2_flash",
    "cohere2",
    "smollm3",
    "falcon_h1",
    "lfm2",
)
LENGTH = 70

every_method = pytest.mark.parametrize("method", METHODS)


def model_of(model_type: str, config: BandsConfig):
    if lacks_type(model_type):
        pytest.skip(f"this Transformers has no {model_type}")
    return convert_model(tiny_model(model_type), config)


@every_method
@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_window_over_all_of_the_text_is_the_unmodified_model(model_type, method):
    ids = tiny_input_ids(2, LENGTH)
    with torch.no_grad():
        converted = model_of(model_type, WIDE[method])(ids).logits
        plain = extend_vanilla_positions(tiny_model(model_type))(ids).logits
    torch.testing.assert_close(converted, plain, rtol=0, atol=2e-5)


@every_method
@pytest.mark.parametrize("model_type", FAMILIES)
def test_any_chunk_size_gives_what_one_forward_gives_which_is_another_model(model_type, method):
    model, ids = model_of(model_type, METHODS[method]), tiny_input_ids(2, LENGTH)
    with torch.no_grad():
        whole = NllScorer(model)(ids)
        for chunk in (1, 13, 64):
            scorer = StreamScorer(model)
            nll = torch.cat([scorer(part) for part in ids.split(chunk, dim=1)], 1)
            torch.testing.assert_close(nll, whole, rtol=0, atol=1e-5, msg=f"chunk {chunk}")
        plain = NllScorer(extend_vanilla_positions(revert_model(model)))(ids)
    torch.testing.assert_close(whole[:, :9], plain[:, :9], rtol=0, atol=1e-5)
    if model_type not in ("cohere2", "gpt_oss", "mimo_v2_flash", "gemma2"):  # whose windows are their own
        assert (whole - plain).abs().max() > 1e-3


@every_method
def test_padded_prompts_generate_what_each_generates_alone(method):
    model = model_of("llama", METHODS[method])
    prompts = [tiny_input_ids(1, length, seed=length) for length in (40, 25, 7)]
    alone = [model.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :] for ids in prompts]
    padded = torch.cat([torch.nn.functional.pad(ids, (40 - ids.shape[1], 0)) for ids in prompts])
    mask = (torch.arange(40) >= torch.tensor([[0], [15], [33]])).long()
    together = model.generate(padded, attention_mask=mask, max_new_tokens=12, do_sample=False)[:, 40:]
    for row, own in zip(together, alone):
        assert torch.equal(row[: len(own)], own)


def test_beams_are_reordered():
    model, ids = model_of("llama", METHODS["self_extend"]), tiny_input_ids(2, 30)
    cached, uncached = (
        model.generate(ids, max_new_tokens=6, num_beams=3, do_sample=False, use_cache=use_cache)
        for use_cache in (True, False)
    )
    assert torch.equal(cached, uncached)


@every_method
def test_a_configuration_is_saved_with_the_model(tmp_path, method):
    model = model_of("llama", METHODS[method])
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path).eval()
    assert not is_converted(loaded)
    convert_model(loaded)
    assert loaded.base_model.lambda_conversion.config == METHODS[method]
    ids = tiny_input_ids(1, LENGTH)
    with torch.no_grad():
        assert torch.equal(model(ids).logits, loaded(ids).logits)


def filled(model, ids):
    cache = DynamicCache()
    with torch.no_grad():
        output = model(ids, **with_cache(model, cache), use_cache=True)
    assert output[OUTPUT_CACHE] is cache and isinstance(cache.layers[0], FullLayer)
    return cache


def read_on(model, cache, ids):
    with torch.no_grad():
        return torch.cat([model(token, **with_cache(model, cache)).logits for token in ids.split(1, dim=1)], 1)


@every_method
def test_a_cache_is_cropped_branched_saved_and_restored_exactly(method):
    model, ids, more = model_of("llama", METHODS[method]), tiny_input_ids(2, 50), tiny_input_ids(2, 5, seed=1)
    expected = read_on(model, filled(model, ids), more)
    cropped = filled(model, torch.cat([ids, tiny_input_ids(2, 3, seed=2)], 1))
    cropped.crop(-3)
    branched = filled(model, ids)
    branch = branch_cache(branched, room=5)
    restored = filled(model, ids[:, :1])
    state = {name: tensor.clone() for name, tensor in cache_tensors(filled(model, ids)).items()}
    restore_cache(restored, state, 50)
    for cache in (cropped, branch, restored, branched):
        assert torch.equal(read_on(model, cache, more), expected)
    assert bytes_per_token(branched) == 2 * 2 * 2 * 2 * 8 * 4  # layers, keys and values, rows, heads, width, bytes


def test_layers_with_a_window_of_their_own_keep_it():
    """Shorter than the text, so that it counts; `lambda` gives them the method too."""
    ids = tiny_input_ids(1, LENGTH)
    own = convert_model(tiny_model("cohere2", sliding_window=16), WIDE["dca"])
    assert [layer.local_branch for layer in own.base_model.lambda_conversion.layer_configs[:1]] == [16]
    with torch.no_grad():
        output = own(ids, use_cache=True)
        torch.testing.assert_close(
            output.logits, tiny_model("cohere2", sliding_window=16)(ids).logits, rtol=0, atol=2e-5
        )
    assert [type(layer) for layer in output[OUTPUT_CACHE].layers] == [LambdaLayer, FullLayer]
    assert output[OUTPUT_CACHE].layers[0].keys.shape[2] == 16
    config = BandsConfig("dca", chunk=12, window=5, window_layers="lambda")
    all_layers = convert_model(tiny_model("cohere2", sliding_window=16), config)
    assert set(all_layers.base_model.lambda_conversion.layer_configs) == {config}


def test_a_copy_of_a_model_attends_as_it_does():
    model, ids = model_of("llama", METHODS["dca"]), tiny_input_ids(1, LENGTH)
    with torch.no_grad():
        expected = model(ids).logits
        for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(copied(ids).logits, expected)


def test_what_cannot_be_honoured_is_refused():
    with pytest.raises(ValueError, match="rerope moves rotary positions, and mpt has ALiBi's biases"):
        convert_model(tiny_model("mpt"), METHODS["rerope"])
    with pytest.raises(ValueError, match="dca attends to all tokens in between, which no rank of a sequence_group"):
        check_config(METHODS["dca"])
    model = model_of("llama", METHODS["dca"])
    with pytest.raises(ValueError, match="no room for the middle tokens"):
        DecodeGraph(model, LambdaCache(METHODS["dca"], 2))
    cache = filled(model, tiny_input_ids(1, 5))
    other = convert_model(tiny_model(), LambdaConfig(8, 2, 8))
    with pytest.raises(ValueError, match="this cache was made for BandsConfig"):
        other(tiny_input_ids(1, 2), **with_cache(other, cache))
