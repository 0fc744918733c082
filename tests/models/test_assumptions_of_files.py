"""What is assumed of Transformers' configurations, checkpoints and hooks: the rest of `test_assumptions.py`."""

import inspect

import pytest
import torch
from accelerate import dispatch_model
from transformers import AutoConfig, AutoModelForCausalLM, GgufConfig

from models.assumptions import LAYER_TYPES, POSITION_TABLES, SLIDING, TABLE_OFFSET, WRAPPED_FORWARD
from models.loading.vanilla import position_table_length
from tests.tiny_gguf import write_tiny_gguf
from tests.tiny_models import PRETRAINING_LENGTH, tiny_config, tiny_input_ids, tiny_model

pytestmark = pytest.mark.core

IDS = tiny_input_ids(2, 40)


@pytest.mark.parametrize("model_type", ["ministral", "qwen2", "gemma3_text"])
def test_configurations_list_the_kind_of_each_layers_attention(model_type):
    config = AutoConfig.for_model(model_type, sliding_window=8, use_sliding_window=True, max_window_layers=0)
    assert SLIDING in getattr(config, LAYER_TYPES) and len(getattr(config, LAYER_TYPES)) == config.num_hidden_layers


@pytest.mark.parametrize(("model_type", "offset"), [("gpt2", 0), ("opt", 2)])
def test_learned_positions_are_in_an_embedding_of_a_known_name(model_type, offset):
    sizes = {"hidden_size": 32, "ffn_dim": 32, "word_embed_proj_dim": 32, "n_embd": 32, "num_hidden_layers": 1}
    config = AutoConfig.for_model(
        model_type, num_attention_heads=4, max_position_embeddings=64, n_positions=64, **sizes
    )
    model = AutoModelForCausalLM.from_config(config)
    tables = {name.rpartition(".")[2]: part for name, part in model.named_modules() if hasattr(part, "num_embeddings")}
    (table,) = (part for name, part in tables.items() if name in POSITION_TABLES)
    assert getattr(table, TABLE_OFFSET, 0) == offset and position_table_length(model) == 64


@pytest.mark.parametrize(
    ("model_type", "name"),
    [("granite", "logits_scaling"), ("cohere", "logit_scale"), ("gemma2", "final_logit_softcapping")],
)
def test_configurations_name_what_happens_to_logits(model_type, name):
    assert getattr(AutoConfig.for_model(model_type), name)


@pytest.mark.parametrize(
    ("model_type", "name"),
    [("llama", "max_position_embeddings"), ("gptj", "n_positions"), ("mpt", "max_seq_len")],
)
def test_configurations_name_the_pretraining_length(model_type, name):
    assert getattr(tiny_config(model_type), name) == PRETRAINING_LENGTH


def test_accelerates_hooks_keep_the_forward_that_they_wrap():
    model = dispatch_model(tiny_model(), {"": "cpu"}, force_hooks=True)
    assert hasattr(model.base_model.layers[0].self_attn, WRAPPED_FORWARD)


def test_a_gguf_file_is_read_dequantized(tmp_path):
    write_tiny_gguf(tiny_model(), tmp_path / "tiny.gguf")
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="tiny.gguf", quantization_config=GgufConfig(dequantize=True)
    )
    with torch.no_grad():
        found, expected = model(IDS).logits, tiny_model()(IDS).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_loading_reports_missing_and_mismatched_weights(tmp_path):
    model = tiny_model()
    weights = model.state_dict()
    del weights["model.layers.0.self_attn.q_proj.weight"]
    weights["model.norm.weight"] = torch.ones(5)
    model.save_pretrained(tmp_path, state_dict=weights)
    _, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True, ignore_mismatched_sizes=True)
    assert list(report["missing_keys"]) == ["model.layers.0.self_attn.q_proj.weight"]
    assert [name for name, *_ in report["mismatched_keys"]] == ["model.norm.weight"]


def test_deepspeeds_zero3_is_asked_about_where_it_was():
    from transformers.integrations import HfDeepSpeedConfig, is_deepspeed_zero3_enabled

    assert not is_deepspeed_zero3_enabled() and "config_file_or_dict" in inspect.signature(HfDeepSpeedConfig).parameters
