"""Rotary positions that are scaled, as Transformers does, or moved: from what the command line names to a model."""

from pathlib import Path

import pytest
import torch

from models.attention.bands.config import BandsConfig
from models.get_model import ModelSpec, get_model
from models.lambda_attention import LambdaConfig
from tests.tiny_models import PRETRAINING_LENGTH, tiny_config, tiny_input_ids, tiny_model, tiny_tokenizer
from utils.errors import UserError

LAMBDA = LambdaConfig(local_branch=8, global_branch=2, limit_distance=8)


def refusal(spec: ModelSpec, method: LambdaConfig | BandsConfig | None = None) -> str:
    """The one sentence with which `spec` is refused."""
    with pytest.raises(UserError) as error:
        get_model(spec, method)
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.fixture
def saved(tmp_path: Path):
    """Saves a model with the tiny tokenizer, and gives its folder."""

    def save(model) -> Path:
        model.save_pretrained(tmp_path / model.config.model_type)
        tiny_tokenizer().save_pretrained(tmp_path / model.config.model_type)
        return tmp_path / model.config.model_type

    return save


@pytest.mark.parametrize("scaling", ["linear", "dynamic", "yarn"])
@pytest.mark.parametrize("model_type", ["llama", "gpt_neox"])
@torch.no_grad()
def test_it_is_that_of_transformers(saved, scaling, model_type):
    ids = tiny_input_ids(batch=1, length=2 * PRETRAINING_LENGTH)
    loaded = get_model(ModelSpec(str(saved(tiny_model(model_type))), rope_scaling=scaling, rope_factor=4.0))
    parameters = tiny_config(model_type).rope_parameters | {"rope_type": scaling, "factor": 4.0}
    if scaling == "yarn":
        parameters["original_max_position_embeddings"] = PRETRAINING_LENGTH
    expected = tiny_model(model_type, rope_parameters=parameters)(ids).logits
    assert torch.equal(loaded.model(ids).logits, expected)
    assert (expected - tiny_model(model_type)(ids).logits).abs().max() > 1e-2
    assert loaded.identity["pretraining_length"] == PRETRAINING_LENGTH


@pytest.mark.parametrize("model_type", ["llama", "gpt_neox"])
@torch.no_grad()
def test_a_target_length_is_the_factor_times_the_pre_training_length(saved, model_type):
    ids = tiny_input_ids(batch=1, length=2 * PRETRAINING_LENGTH)
    folder = str(saved(tiny_model(model_type)))
    for scaling in ("linear", "ntk", "yarn"):
        spec = ModelSpec(folder, rope_scaling=scaling, target_length=3 * PRETRAINING_LENGTH)
        by_factor = get_model(ModelSpec(folder, rope_scaling=scaling, rope_factor=3.0))
        loaded = get_model(spec)
        assert torch.equal(loaded.model(ids).logits, by_factor.model(ids).logits)
        assert loaded.identity["pretraining_length"] == PRETRAINING_LENGTH
    assert loaded.model.config.rope_parameters["original_max_position_embeddings"] == PRETRAINING_LENGTH


@pytest.mark.parametrize(("model_type", "width"), [("llama", 8), ("gpt_neox", 4)])
@torch.no_grad()
def test_static_ntk_is_another_theta(saved, model_type, width):
    """theta * s^(d / (d - 2)), d the features that are turned: the lowest frequency is s times as low."""
    spec = ModelSpec(str(saved(tiny_model(model_type))), rope_scaling="ntk", rope_factor=4.0)
    theta = 1e4 * 4 ** (width / (width - 2))
    rope = tiny_config(model_type).rope_parameters
    expected = tiny_model(model_type, rope_parameters=rope | {"rope_theta": theta})
    ids = tiny_input_ids(batch=1, length=2 * PRETRAINING_LENGTH)
    found = get_model(spec).model
    assert torch.equal(found(ids).logits, expected(ids).logits)
    lowest = [model.base_model.rotary_emb.inv_freq[-1] for model in (found, tiny_model(model_type))]
    torch.testing.assert_close(4 * lowest[0], lowest[1])


def test_a_target_within_the_pre_training_length_is_refused(tiny_llama_dir):
    spec = ModelSpec(str(tiny_llama_dir), rope_scaling="yarn", target_length=PRETRAINING_LENGTH - 1)
    assert "--target_length 63 is less than the 64 tokens that this model was trained with" in refusal(spec)


def test_models_without_it_are_refused(saved, tiny_tokenizer_dir):
    for model_type in ("mpt", "gptj"):
        spec = ModelSpec(str(saved(tiny_model(model_type))), rope_scaling="dynamic", rope_factor=2.0)
        assert f"--rope_scaling dynamic needs a model whose rotary positions can be scaled, {model_type}" in refusal(
            spec
        )
    spec = ModelSpec("constant_model", str(tiny_tokenizer_dir), rope_scaling="dynamic", rope_factor=2.0)
    assert "constant has none" in refusal(spec)


def test_a_checkpoint_that_is_scaled_already_is_refused(saved):
    parameters = {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}
    spec = ModelSpec(str(saved(tiny_model(rope_parameters=parameters))), rope_scaling="dynamic", rope_factor=2.0)
    assert "has a scaling of its own, linear" in refusal(spec)


def test_frequencies_that_grow_with_the_text_need_a_bound(tiny_llama_dir):
    spec = ModelSpec(str(tiny_llama_dir), rope_scaling="dynamic", rope_factor=2.0)
    assert "--limit_distance none cannot be combined" in refusal(spec, LambdaConfig(8, 2, None))
    for bounded in (LAMBDA, LambdaConfig(8, 0, None), LambdaConfig(8, 2, None, sink_positions="cache")):
        get_model(spec, bounded)


def test_what_is_left_open_follows_from_the_pre_training_length(tiny_llama_dir):
    loaded = get_model(ModelSpec(str(tiny_llama_dir)), BandsConfig("dca"))
    assert loaded.model.config.lambda_attention == BandsConfig("dca", window=5, chunk=44).to_dict()


def test_alibi_and_frequencies_that_follow_the_text_are_refused(saved, tiny_llama_dir):
    spec = ModelSpec(str(saved(tiny_model("mpt"))))
    words = "--remap_positions rerope moves rotary positions, and mpt has ALiBi's biases"
    assert words in refusal(spec, BandsConfig("rerope"))
    spec = ModelSpec(str(tiny_llama_dir), rope_scaling="dynamic", rope_factor=2.0)
    assert "cannot be combined with RoPE scaling 'dynamic'" in refusal(spec, BandsConfig("rerope"))
