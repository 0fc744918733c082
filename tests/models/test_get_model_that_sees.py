"""Loading models that see as well as read, as the command line names them."""

import pytest
import torch

from models.get_model import ModelSpec, get_model
from models.lambda_attention import LambdaConfig
from models.loading.pretrained import loaded_config
from models.model_base import FAMILIES, UnsupportedModelError, family_of, is_converted
from tests.seeing_models import seeing_config, seeing_model
from tests.tiny_models import PRETRAINING_LENGTH, VOCAB_SIZE, tiny_input_ids, tiny_tokenizer

pytestmark = pytest.mark.core

LAMBDA, WIDE, IDS = LambdaConfig(8, 3, 8), LambdaConfig(64, 3, 64), tiny_input_ids(2, 30)


@pytest.mark.parametrize("model_type", ["llava", "gemma3"])
def test_the_whole_model_is_loaded_vanilla_or_converted(model_type, tmp_path):
    """Transformers takes Gemma 3 for a causal LM, and LLaVA for none."""
    model, spec = seeing_model(model_type), ModelSpec(str(tmp_path))
    model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    vanilla, converted = get_model(spec), get_model(spec, LAMBDA)
    with torch.no_grad():
        torch.testing.assert_close(vanilla.model(IDS).logits, model(IDS).logits)
    assert type(converted.model) is type(model) and is_converted(converted.model) and not is_converted(vanilla.model)
    facts = {name: converted.identity[name] for name in ("model_type", "vocab_size", "pretraining_length")}
    assert facts == {"model_type": model_type, "vocab_size": VOCAB_SIZE, "pretraining_length": PRETRAINING_LENGTH}
    if model_type == "llava":  # Gemma 3 has rotary positions by kind of layer
        scaled = get_model(ModelSpec(str(tmp_path), rope_scaling="linear", rope_factor=2.0)).model
        assert scaled.config.text_config.rope_parameters["rope_type"] == "linear"


def test_of_some_the_text_model_alone_is_loaded_and_it_is_the_one_that_is_asked(tmp_path):
    config = seeing_config("llama4")
    assert loaded_config(config) is config.text_config
    assert family_of(loaded_config(config)) is FAMILIES["llama4_text"]
    with pytest.raises(UnsupportedModelError, match="'llama4': its forward fails in Transformers 5.24"):
        family_of(config)
    assert loaded_config(seeing_config("llava")).model_type == "llava"
    model = seeing_model("llama4")
    model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    loaded = get_model(ModelSpec(str(tmp_path)), WIDE).model
    assert is_converted(loaded)
    with torch.no_grad():
        expected = model.language_model(IDS).logits
        torch.testing.assert_close(loaded(IDS).logits, expected, rtol=0, atol=1e-5 * expected.abs().max().item())
