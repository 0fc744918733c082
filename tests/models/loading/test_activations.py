"""The memory that a forward takes per token: the estimate lies above what is counted, and not far above."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from models.converting.wrappers import base_model
from models.lambda_attention import LambdaConfig
from models.loading.activations import bytes_per_token
from models.model_base import convert_model
from tests.fake_cuda import GPU, fake_cuda, on_gpu
from tests.live_bytes import LiveBytes
from tests.tiny_models import tiny_config, tiny_input_ids, tiny_model

LENGTHS = (2048, 4096)
LAMBDA = LambdaConfig(64, 4, 64)
LLAMA_7B = {"hidden_size": 4096, "intermediate_size": 11_008, "num_attention_heads": 32, "num_key_value_heads": 32}
_HEADS = {"num_attention_heads": 8, "num_key_value_heads": 2}
_SHAPE = {"hidden_size": 256, **_HEADS}
SHAPES = {
    "llama": {**_SHAPE, "intermediate_size": 688, "num_key_value_heads": 8},
    "qwen2": {**_SHAPE, "intermediate_size": 1024},
    "qwen3": {**_SHAPE, "intermediate_size": 512, "head_dim": 64},
    "phi3": {**_SHAPE, "intermediate_size": 688},
    "mixtral": {**_SHAPE, "intermediate_size": 688},
    "qwen3_moe": {**_SHAPE, "moe_intermediate_size": 192, "num_experts": 16, "num_experts_per_tok": 8, "head_dim": 32},
    "llama4_text": {
        **{**_SHAPE, "intermediate_size": 344, "intermediate_size_mlp": 688, "head_dim": 32},
        **{"num_local_experts": 8, "attention_chunk_size": 48},
    },
    "gpt_neox": {"hidden_size": 256, "num_attention_heads": 8, "intermediate_size": 1024},
    "gptj": {"n_embd": 256, "n_head": 8, "n_inner": 1024, "rotary_dim": 16},
    "mpt": {"d_model": 256, "n_heads": 8, "expansion_ratio": 4},
}


def counted(model) -> float:
    """Bytes per token between two lengths: what does not depend on the length drops out."""
    peaks = []
    for length in LENGTHS:
        with torch.no_grad(), LiveBytes() as count:
            base_model(model)(input_ids=tiny_input_ids(1, length), use_cache=False)
        peaks.append(count.peak)
    return (peaks[1] - peaks[0]) / (LENGTHS[1] - LENGTHS[0])


@pytest.mark.parametrize("model_type, dtype", [("llama", torch.float32), *((name, torch.bfloat16) for name in SHAPES)])
def test_the_estimate_lies_above_what_is_counted(model_type, dtype):
    model = convert_model(tiny_model(model_type, **SHAPES[model_type]).to(dtype), LAMBDA)
    count = counted(model)
    assert count < bytes_per_token(model, LAMBDA.global_branch) < 5 * count


def test_on_a_gpu_at_the_shape_of_a_7b_model():
    """Two layers of it, two segments of blockwise."""
    config = tiny_config("llama", **LLAMA_7B, num_hidden_layers=2)
    with fake_cuda(), torch.no_grad():
        model = on_gpu(AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16))
        convert_model(model, LambdaConfig(4096, 100, 4096, backend="blockwise"))
        with LiveBytes() as count:
            model.base_model(input_ids=torch.zeros(1, 16_384, dtype=torch.int64, device=GPU), use_cache=False)
    each = bytes_per_token(model, 100)
    assert each == 280 * 2**10
    assert 0.3 * each < count.peak / 16_384 < each


def test_the_first_tokens_scores_count():
    model = tiny_model()
    assert bytes_per_token(model, 100) - bytes_per_token(model) == 4 * 4 * 100 * 4  # copies, heads, tokens, bytes
