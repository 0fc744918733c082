"""What Transformers' own suite asks of generation, of one family of each kind: RoPE, RoPE in pairs, ALiBi."""

import copy

import pytest
import torch
from transformers import DynamicCache
from transformers.generation import stopping_criteria

from models.assumptions import BATCHING, CRITERIA, OUTPUT_CACHE
from models.lambda_attention import LambdaConfig
from models.model_base import convert_model, revert_model
from tests.tiny_models import PRETRAINING_LENGTH, tiny_input_ids, tiny_model

pytestmark = pytest.mark.core

FAMILIES = ("llama", "gpt_neox", "gptj", "mpt")
WIDE, NARROW = LambdaConfig(64, 4, 64), LambdaConfig(8, 3, 8)
PROMPT = tiny_input_ids(1, 6).repeat(1, 3)  # n-grams to be found again


def generate(model, ids=PROMPT, new=12, **options):
    return model.generate(ids, max_new_tokens=new, do_sample=False, pad_token_id=0, eos_token_id=None, **options)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_prompt_lookup_is_exact_while_nothing_is_evicted(model_type):
    model = convert_model(tiny_model(model_type), WIDE)
    assert torch.equal(generate(model, prompt_lookup_num_tokens=3), generate(model))


@pytest.mark.parametrize("model_type", FAMILIES)
def test_assisted_decoding_is_exact_while_nothing_is_evicted(model_type):
    model, helper = (convert_model(tiny_model(model_type, seed=seed), WIDE) for seed in (0, 1))
    assert torch.equal(generate(model, assistant_model=helper), generate(model))


@pytest.mark.parametrize(
    "how", [{"prompt_lookup_num_tokens": 3}, {"assistant_model": None}], ids=["lookup", "assisted"]
)
def test_past_the_window_they_are_one_true_sentence(how):
    model = convert_model(tiny_model(), NARROW)
    if "assistant_model" in how:
        how = {"assistant_model": convert_model(tiny_model(seed=1), NARROW)}
    with pytest.raises(NotImplementedError, match="more than the 8 of its window, has overwritten"):
        generate(model, **how)


@pytest.mark.parametrize("config", [WIDE, NARROW], ids=["covered", "beyond"])
@pytest.mark.parametrize("model_type", FAMILIES)
def test_beams_are_those_of_a_search_without_a_cache(model_type, config):
    model, ids = convert_model(tiny_model(model_type), config), tiny_input_ids(2, 12)
    beams = {"num_beams": 3, "num_return_sequences": 2}
    found = generate(model, ids, 8, **beams)
    assert found.shape == (4, 20) and len({tuple(row) for row in found.tolist()}) > 2
    assert torch.equal(found, generate(model, ids, 8, use_cache=False, **beams))


def test_an_empty_dynamic_cache_is_taken_and_goes_on_in_another_call():
    model, ids, cache = convert_model(tiny_model(), NARROW), tiny_input_ids(2, 12), DynamicCache()
    whole = generate(model, ids, 10)
    options = {OUTPUT_CACHE: cache}
    assert torch.equal(generate(model, generate(model, ids, 4, **options), 6, **options), whole)


@pytest.mark.parametrize("implementation", ["offloaded", "quantized"])
def test_another_cache_is_refused_by_name(implementation):
    with pytest.raises((ValueError, ImportError), match="quantized or offloaded|optimum|quanto|HQQ"):
        generate(convert_model(tiny_model(), NARROW), cache_implementation=implementation)


def test_continuous_batching_is_one_true_sentence_and_the_vanilla_model_has_it_again():
    model = convert_model(tiny_model(), NARROW)
    for begin in (lambda: model.generate_batch([[5, 6, 7]]), model.init_continuous_batching):
        with pytest.raises(NotImplementedError, match="call generate with a padded batch"):
            begin()
    assert BATCHING not in revert_model(model).__dict__


@pytest.fixture
def warned(monkeypatch):
    """The texts that Transformers warns of once, each time that it would."""
    said = []
    monkeypatch.setattr(stopping_criteria.logger, "warning_once", said.append, raising=False)
    return said


def test_a_length_beyond_the_pre_training_is_warned_of_for_vanilla_models_alone(warned):
    model, ids = convert_model(tiny_model(), NARROW), tiny_input_ids(1, PRETRAINING_LENGTH)
    generate(model, ids, 3)
    assert not warned
    generate(revert_model(model), ids, 3)
    assert "predefined maximum length" in warned[0]
    warned.clear()
    generate(copy.deepcopy(convert_model(model, NARROW)), ids, 3)
    assert not warned and CRITERIA not in revert_model(model).__dict__


CONFIGS = (NARROW, LambdaConfig(8, 3, 5), LambdaConfig(8, 3, 8, triangle_offset=0.5))


@pytest.mark.parametrize("config", CONFIGS, ids=["sinks", "capped", "triangle"])
@pytest.mark.parametrize("model_type", FAMILIES)
def test_float64_decodes_past_the_window_to_what_one_forward_gives(model_type, config):
    model, ids = convert_model(tiny_model(model_type).double(), config), tiny_input_ids(2, 30)
    with torch.no_grad():
        output = model(ids[:, :20], use_cache=True)
        cache = next(value for name, value in output.items() if name in ("cache", "past_key_values"))
        name = next(name for name in ("cache", "past_key_values") if name in output)
        for place in range(20, 30):
            one = model(ids[:, place : place + 1], **{name: cache}).logits[:, 0]
            assert one.dtype == torch.float64
            torch.testing.assert_close(one, model(ids[:, : place + 1]).logits[:, -1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padded", [False, True])
def test_a_static_cache_is_named_padded_or_not(padded):
    model, ids = convert_model(tiny_model(), NARROW), tiny_input_ids(2, 8)
    mask = torch.ones_like(ids)
    mask[0, :3] = 0 if padded else 1
    with pytest.raises(ValueError, match="static"):
        generate(model, ids, cache_implementation="static", attention_mask=mask)
