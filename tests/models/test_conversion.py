"""Converting a Transformers model of every family, and everything that happens to a model afterwards."""

import copy

import pytest
import torch
from accelerate import dispatch_model
from transformers import AutoModelForCausalLM, LlamaForCausalLM
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from models.assumptions import cache_of, with_cache
from models.attention import positions
from models.converting.refused import REASONS
from models.errors import SharedError
from models.gpt_j import convert_gpt_j_model
from models.gpt_neox import convert_gpt_neox_model
from models.lambda_attention import BandsConfig, LambdaConfig
from models.llama import convert_llama_model
from models.model_base import (
    UnsupportedModelError,
    check_supported,
    convert_model,
    extend_vanilla_positions,
    is_converted,
    pretraining_length,
    revert_model,
    supported_model_types,
)
from models.mpt_7b import convert_mpt_model
from models.scoring.stream_scorer import StreamScorer
from tests.models.every_type import EVERY_TYPE, empty_cache, rounding, types
from tests.tiny_models import PRETRAINING_LENGTH, tiny_config, tiny_input_ids, tiny_model

pytestmark = pytest.mark.core

CONFIG, WIDE = LambdaConfig(8, 3, 8), LambdaConfig(64, 4, 64)
IDS = tiny_input_ids(2, 40)
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@torch.no_grad()
def logits(model, ids=IDS, **inputs) -> torch.Tensor:
    return model(ids, **inputs).logits


def scale(expected: torch.Tensor, model_type: str | None = None) -> dict[str, float]:
    """1e-5 relative to the largest logit."""
    return {"rtol": 0, "atol": 1e-5 * rounding(model_type) * expected.abs().max().item()}


@EVERY_TYPE
def test_every_family_below_the_window_in_chunks_and_reverted(model_type):
    model = tiny_model(model_type)
    vanilla = logits(model)
    wide = logits(convert_model(model, WIDE))
    torch.testing.assert_close(wide, vanilla, **scale(vanilla, model_type))

    whole = logits(convert_model(model, CONFIG))
    assert (whole - vanilla)[:, 8:].abs().max() > 1e-2
    torch.testing.assert_close(whole[:, :8], vanilla[:, :8], **scale(vanilla, model_type))
    cache, parts = empty_cache(model), []
    for start, stop in ((0, 5), (5, 6), (6, 30), (30, 31), (31, 40)):
        parts.append(logits(model, IDS[:, start:stop], **with_cache(model, cache)))
    torch.testing.assert_close(torch.cat(parts, 1), whole, **scale(vanilla, model_type))

    assert torch.equal(logits(revert_model(model)), vanilla)


@pytest.mark.parametrize(
    ("convert", "model_type"),
    [
        (convert_llama_model, "llama"),
        (convert_mpt_model, "mpt"),
        (convert_gpt_j_model, "gptj"),
        (convert_gpt_neox_model, "gpt_neox"),
    ],
)
def test_the_published_drop_ins_word_for_word(convert, model_type):
    model = tiny_model(model_type)
    assert convert(model, 4096, 10) is model
    config = LambdaConfig.from_dict(model.config.lambda_attention)
    assert (config.local_branch, config.global_branch, config.limit_distance) == (4096, 10, 4096)
    assert model.generate(IDS, max_new_tokens=3, pad_token_id=0, eos_token_id=None).shape == (2, 43)
    assert LambdaConfig.from_dict(convert(model, 8, 2, None).config.lambda_attention).limit_distance is None


@pytest.mark.parametrize(
    ("convert", "other"),
    [
        (convert_llama_model, "gptj"),
        (convert_mpt_model, "llama"),
        (convert_gpt_j_model, "llama"),
        (convert_gpt_neox_model, "llama"),
    ],
)
def test_a_drop_in_refuses_another_family(convert, other):
    model = tiny_model(other)
    with pytest.raises(ValueError, match=f"not {other}"):
        convert(model, 8, 2)
    assert not is_converted(model)


def test_unsupported_models_are_refused_by_name_with_the_supported_ones():
    with pytest.raises(UnsupportedModelError, match="'gpt2'.*gptj.*llama.*mpt"):
        convert_model(tiny_model("gpt2"), CONFIG)


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [("deepseek_v3", "latent attention"), ("glm_moe_dsa", "indexer"), ("bart", "encoder-decoder"), ("opt", "added")],
)
def test_types_that_are_refused_with_a_reason(model_type, reason):
    with pytest.raises(UnsupportedModelError, match=f"'{model_type}': .*{reason}.*; it supports"):
        check_supported(model_type)


@pytest.mark.parametrize("model_type", types(within=("gemma4_text",)))
@pytest.mark.parametrize("flag", [{"num_kv_shared_layers": 1}, {"use_bidirectional_attention": "all"}])
def test_a_gemma_4_that_shares_keys_or_looks_ahead_is_refused(model_type, flag):
    kinds = {"num_hidden_layers": 3, "layer_types": ["sliding_attention", "full_attention", "full_attention"]}
    with pytest.raises(SharedError, match="attend to keys of other layers"):
        convert_model(tiny_model(model_type, **kinds, **flag), CONFIG)


def test_a_reason_is_given_for_every_type_but_hybrids_and_those_that_see_or_hear():
    without = {
        *("bamba", "falcon_h1", "granitemoehybrid", "jamba", "lara_mini", "lfm2", "lfm2_moe", "lfm3", "minimax"),
        *("nemotron_h", "olmo_hybrid", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next", "zamba", "zamba2"),
        *("cohere_compass_text", "emu3", "fuyu", "gemma3", "gemma3n", "gemma4", "gemma4_unified", "git", "got_ocr2"),
        *("gemma4_unified_assistant", "mllama", "moshi", "moss_transcribe_diarize", "phi4_multimodal"),
        *("qwen3_5", "qwen3_5_moe"),
    }
    known = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    assert known - set(supported_model_types()) - REASONS.keys() <= without
    assert not REASONS.keys() & set(supported_model_types())


def test_converting_again_replaces_and_reverting_twice_is_harmless():
    model = tiny_model()
    vanilla = logits(model)
    once = logits(convert_model(model, CONFIG))
    convert_model(convert_model(model, WIDE), CONFIG)
    assert torch.equal(logits(model), once)
    assert torch.equal(logits(revert_model(revert_model(model))), vanilla)
    assert not is_converted(model) and not hasattr(model.config, "lambda_attention")


def test_saving_loading_and_converting_with_the_saved_configuration(tmp_path):
    model = convert_model(tiny_model(), CONFIG)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded) is LlamaForCausalLM and not is_converted(loaded)
    torch.testing.assert_close(logits(convert_model(loaded)), logits(model), **CLOSE)
    with pytest.raises(ValueError, match="LambdaConfig"):
        convert_model(tiny_model())


def test_a_copy_is_independent():
    model = tiny_model()
    vanilla = logits(model)
    converted = logits(convert_model(model, CONFIG))
    twin = copy.deepcopy(model)
    assert torch.equal(logits(revert_model(twin)), vanilla)
    assert torch.equal(logits(model), converted)


def test_moving_to_another_dtype_after_conversion():
    model = convert_model(tiny_model(), CONFIG)
    exact = logits(model)
    half = logits(model.to(torch.bfloat16))
    assert half.dtype == torch.bfloat16
    assert (half.float() - exact).abs().mean() < 0.02 * exact.abs().mean() + 0.05


@pytest.mark.parametrize("model_type", ["llama", "qwen3", "mpt", "gptj"])
def test_autocast_is_as_close_as_for_the_vanilla_model(model_type):
    model = tiny_model(model_type)
    exact = logits(model)
    with torch.autocast("cpu", torch.bfloat16):
        vanilla, wide = logits(model), logits(convert_model(model, WIDE))
        logits(convert_model(model, CONFIG))
    assert (wide - exact).abs().mean() < 1.2 * (vanilla - exact).abs().mean()


@pytest.mark.parametrize("dispatch_first", [True, False])
def test_accelerate_device_maps_before_and_after_conversion(dispatch_first):
    expected = logits(convert_model(tiny_model(), CONFIG))
    model, device_map = tiny_model(), {"": "cpu"}
    if dispatch_first:
        model = convert_model(dispatch_model(model, device_map, force_hooks=True), CONFIG)
    else:
        model = dispatch_model(convert_model(model, CONFIG), device_map, force_hooks=True)
    torch.testing.assert_close(logits(model), expected, **CLOSE)


def test_gradients_are_refused_with_a_reason_and_none_are_needed():
    model = convert_model(tiny_model(), CONFIG)
    output = model(IDS).logits
    torch.testing.assert_close(output.detach(), logits(model), **CLOSE)
    with pytest.raises(RuntimeError, match="inference"):
        output.sum().backward()
    with torch.inference_mode():
        torch.testing.assert_close(model(IDS).logits, logits(model), **CLOSE)


def test_no_mask_is_built_by_transformers(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a mask was built")

    for name in ("sdpa", "eager"):
        monkeypatch.setitem(ALL_MASK_ATTENTION_FUNCTIONS._global_mapping, name, refuse)
    padded = torch.ones_like(IDS)
    padded[0, :5] = 0
    for model_type in ("llama", "mistral", "qwen2", "gptj", "mpt", "gpt_neox"):
        logits(convert_model(tiny_model(model_type), CONFIG), attention_mask=padded)
    with pytest.raises(AssertionError, match="mask"):
        logits(tiny_model("gptj"))


@pytest.mark.parametrize(
    ("inputs", "named"),
    [
        ({"output_attentions": True}, "output_attentions"),
        ({"attention_mask": torch.ones(2, 1, 40, 40)}, "padding mask"),
        ({"attention_mask": torch.ones(2, 30)}, "padding mask"),
        ({"position_ids": torch.arange(20).repeat(2, 2)}, "packed"),
    ],
)
def test_inputs_that_would_be_wrong_silently_are_refused(inputs, named):
    model = convert_model(tiny_model(), CONFIG)
    with pytest.raises(ValueError, match=named):
        logits(model, **inputs)


def test_one_row_of_positions_for_a_padded_batch_is_taken():
    padded = torch.ones_like(IDS)
    padded[0, :5] = 0
    model = convert_model(tiny_model(), CONFIG)
    shared = logits(model, attention_mask=padded, position_ids=torch.arange(40)[None])
    torch.testing.assert_close(shared, logits(model, attention_mask=padded))


@pytest.mark.parametrize("model_type", ["gptj", "mpt", "llama"])
def test_vanilla_models_run_past_their_position_tables(model_type):
    ids, length = tiny_input_ids(1, 5 * PRETRAINING_LENGTH), PRETRAINING_LENGTH
    unextended = logits(tiny_model(model_type), ids[:, :length])
    model = extend_vanilla_positions(tiny_model(model_type))
    whole = logits(model, ids)
    torch.testing.assert_close(whole[:, :length], unextended, **scale(unextended))
    with torch.no_grad():
        cache = cache_of(model(ids[:, :100], use_cache=True))
    continued = logits(model, ids[:, 100:], **with_cache(model, cache))
    torch.testing.assert_close(continued, whole[:, 100:], **scale(whole))


@pytest.mark.parametrize("model_type", ["gptj", "mpt"])
def test_a_copy_of_an_extended_vanilla_model_runs_past_its_tables_too(model_type):
    model, ids = extend_vanilla_positions(tiny_model(model_type)), tiny_input_ids(1, 2 * PRETRAINING_LENGTH)
    assert torch.equal(logits(copy.deepcopy(model), ids), logits(model, ids))


def test_pretraining_length_is_that_before_scaling():
    assert pretraining_length(tiny_config("llama")) == PRETRAINING_LENGTH
    assert pretraining_length(tiny_config("mpt")) == PRETRAINING_LENGTH
    assert pretraining_length(tiny_config("gptj")) == PRETRAINING_LENGTH
    yarn = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16}
    assert pretraining_length(tiny_config("llama", rope_parameters=yarn)) == 16


def test_all_layers_of_a_forward_share_one_rotary_table(monkeypatch):
    """Of positions many times as many as tables are kept for otherwise, and in a stream too."""
    monkeypatch.setattr(positions, "TABLE_BLOCK", 4)
    monkeypatch.setattr(positions, "CACHED_BLOCKS", 2)
    computed, compute = [], positions.RotaryPositions._compute_range_table
    monkeypatch.setattr(
        positions.RotaryPositions, "_compute_range_table", lambda *args: computed.append(args[1]) or compute(*args)
    )
    model = convert_llama_model(tiny_model("llama", num_hidden_layers=5), 8, 2)
    scorer = StreamScorer(model)
    for chunk in tiny_input_ids(2, 120).split(60, dim=1):
        with torch.no_grad():
            scorer(chunk)
    assert sorted(computed) == sorted({*computed})
    assert {*range(0, 120, 4)} <= {*computed}


@pytest.mark.parametrize("method", [LambdaConfig(8, 3, 8), BandsConfig("rerope", window=8, log_scale=0)])
@pytest.mark.parametrize("columns", [1, 3])
def test_a_cache_of_another_precision_is_refused(method, columns):
    model = convert_model(tiny_model(), method)
    with torch.no_grad():
        cache = cache_of(model(tiny_input_ids(1, 20), use_cache=True))
        with torch.autocast("cpu", torch.bfloat16), pytest.raises(ValueError, match="holds torch.float32 and the new"):
            model(tiny_input_ids(1, columns), **with_cache(model, cache))
