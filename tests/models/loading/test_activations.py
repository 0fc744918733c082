"""The memory that a forward takes per token: the estimate lies above what is counted, and not far above."""

import pytest
import torch

from models.lambda_attention import LambdaConfig
from models.loading.activations import bytes_per_token
from models.model_base import convert_model
from tests.live_bytes import LiveBytes
from tests.tiny_models import tiny_input_ids, tiny_model

LENGTHS = (2048, 4096)
_HEADS = {"num_attention_heads": 8, "num_key_value_heads": 2}
_SHAPE = {"hidden_size": 256, **_HEADS}
SHAPES = {
    "llama": {**_SHAPE, "intermediate_size": 688, "num_key_value_heads": 8},
    "qwen2": {**_SHAPE, "intermediate_size": 1024},
    "qwen3": {**_SHAPE, "intermediate_size": 512, "head_dim": 64},
    "phi3": {**_SHAPE, "intermediate_size": 688},
    "mixtral": {**_SHAPE, "intermediate_size": 688},
    "qwen3_moe": {**_SHAPE, "moe_intermediate_size": 192, "num_experts": 16, "num_experts_per_tok": 8, "head_dim": 32},
    "gpt_neox": {"hidden_size": 256, "num_attention_heads": 8, "intermediate_size": 1024},
    "gptj": {"n_embd": 256, "n_head": 8, "n_inner": 1024, "rotary_dim": 16},
    "mpt": {"d_model": 256, "n_heads": 8, "expansion_ratio": 4},
}


def counted(model) -> float:
    """Bytes per token between two lengths: what does not depend on the length drops out."""
    peaks = []
    for length in LENGTHS:
        with torch.no_grad(), LiveBytes() as count:
            model.base_model(input_ids=tiny_input_ids(1, length), use_cache=False)
        peaks.append(count.peak)
    return (peaks[1] - peaks[0]) / (LENGTHS[1] - LENGTHS[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("model_type", SHAPES)
def test_the_estimate_lies_above_what_is_counted(model_type, dtype):
    model = convert_model(tiny_model(model_type, **SHAPES[model_type]).to(dtype), LambdaConfig(64, 4, 64))
    count = counted(model)
    assert count < bytes_per_token(model) < 5 * count
