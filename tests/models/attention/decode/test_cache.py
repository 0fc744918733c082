"""The cache: bounded, a Transformers cache, and honest about what it cannot do."""

import pytest
import torch
from transformers import DynamicCache, StaticCache

from models.assumptions import with_cache
from models.attention.decode.cache import LambdaCache, LambdaLayer
from models.attention.inputs import as_lambda_cache
from models.lambda_attention import LambdaConfig, TopK
from models.model_base import convert_model
from tests.models.attention.attention_cases import make_case
from tests.tiny_models import tiny_config, tiny_input_ids, tiny_model

pytestmark = pytest.mark.core

CONFIG = LambdaConfig(8, 3, 8)


def test_entries_and_bytes_stay_the_same_however_long_the_stream():
    case, layer, sizes = make_case(CONFIG, 2000), LambdaLayer(CONFIG), []
    for start in range(0, 2000, 50):
        case.attend(slice(start, start + 50), layer)
        sizes.append(layer.nbytes())
    assert len(set(sizes)) == 1
    assert layer.keys.shape[-2] + layer.sink_keys.shape[-2] == CONFIG.local_branch + CONFIG.global_branch
    assert layer.get_seq_length() == 2000


@pytest.mark.parametrize("offload", [True, False])
def test_the_middle_is_kept_once_and_rarely_copied(offload):
    config = LambdaConfig(8, 3, 8, top_k=TopK(2, 8, offload=offload))
    case, layer, places = make_case(config, 1000), LambdaLayer(config), set()
    case.attend(slice(0, 600), layer)
    for token in range(600, 1000):
        case.attend(slice(token, token + 1), layer)
        places.add(layer.history_keys.data_ptr())
    assert len(places) <= 2
    assert layer.nbytes() < 2 * 1000 * case.key[:, :, :1].nbytes * 2 + 4096


def test_a_short_text_takes_little_of_a_long_window():
    config = LambdaConfig(10_000, 100, 10_000)
    layer = LambdaLayer(config)
    make_case(config, 5).attend(past=layer)
    assert layer.keys.shape[-2] < 200


def test_an_empty_dynamic_cache_is_refitted_in_place_and_continues():
    model, ids = convert_model(tiny_model(), CONFIG), tiny_input_ids(1, 40)
    cache = DynamicCache()
    with torch.no_grad():
        model(ids[:, :25], **with_cache(model, cache))
        continued = model(ids[:, 25:], **with_cache(model, cache)).logits
        torch.testing.assert_close(continued, model(ids).logits[:, 25:], rtol=1e-5, atol=1e-5)
    assert cache.get_seq_length() == 40


def test_foreign_caches_are_refused():
    filled = DynamicCache()
    filled.update(torch.zeros(1, 2, 4, 8), torch.zeros(1, 2, 4, 8), 0)
    other = LambdaConfig(9, 3, 9)
    static = StaticCache(config=tiny_config("llama"), max_cache_len=8)
    for cache in (filled, static):
        with pytest.raises(ValueError, match="LambdaCache"):
            as_lambda_cache(cache, CONFIG, [(LambdaLayer, CONFIG)] * 2)
    with pytest.raises(ValueError, match="made for"):
        as_lambda_cache(LambdaCache(CONFIG, 2), other, [(LambdaLayer, other)] * 2)


def test_reorder_select_and_repeat_move_rows_with_their_positions():
    case, layer = make_case(CONFIG, 30, batch=2), LambdaLayer(CONFIG)
    case.attend(slice(0, 20), layer)
    layer.seen = [20, 13]
    first, second = layer.keys[0].clone(), layer.keys[1].clone()
    layer.reorder_cache(torch.tensor([1, 0]))
    assert layer.seen == [13, 20] and torch.equal(layer.keys[1], first)
    layer.batch_repeat_interleave(2)
    assert layer.seen == [13, 13, 20, 20] and torch.equal(layer.keys[1], second)
    layer.batch_select_indices(torch.tensor([2]))
    assert layer.seen == [20] and torch.equal(layer.keys[0], first)


def test_a_stream_begun_in_inference_mode_goes_on_outside_of_it():
    case, layer = make_case(CONFIG, 40), LambdaLayer(CONFIG)
    with torch.inference_mode():
        case.attend(slice(0, 20), layer)
        layer.reorder_cache(torch.tensor([0]))
    continued = torch.cat([case.attend(columns, layer) for columns in (slice(20, 21), slice(21, 40))], 2)
    torch.testing.assert_close(continued, case.attend()[:, :, 20:])


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("tokens", [1, 4])
def test_a_batch_of_another_size_is_refused(rows, tokens):
    layer = LambdaLayer(CONFIG)
    make_case(CONFIG, 20, batch=2).attend(past=layer)
    with pytest.raises(ValueError, match="2 rows"):
        make_case(CONFIG, tokens, batch=rows).attend(past=layer)


def test_reset_starts_a_new_sequence():
    case, layer = make_case(CONFIG, 30), LambdaLayer(CONFIG)
    case.attend(past=layer)
    layer.reset()
    torch.testing.assert_close(case.attend(past=layer), case.attend())


def test_what_was_evicted_cannot_be_cropped_back():
    layer = LambdaLayer(CONFIG)
    case = make_case(CONFIG, CONFIG.local_branch + 1)
    case.attend(past=layer)
    with pytest.raises(NotImplementedError, match=f"more than the {CONFIG.local_branch} of its window"):
        layer.crop(-1)
    layer.crop(0)
    assert layer.columns == CONFIG.local_branch + 1
