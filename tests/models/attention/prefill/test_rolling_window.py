"""Which backend attends, and what a layer launches on a GPU: counted, where there need not be one."""

import pytest
import torch
from torch.nn.attention.flex_attention import AuxOutput

from models.attention.decode.cache import LambdaLayer
from models.attention.positions import AlibiPositions, RotaryPositions
from models.attention.prefill import flex
from models.attention.prefill.blockwise import attend_blockwise
from models.attention.prefill.flex import attend_flex
from models.attention.prefill.rolling_window import choose_backend
from models.errors import UserError
from models.lambda_attention import AttentionLayer, LambdaConfig, lambda_attention
from tests.fake_cuda import GPU, fake_cuda

SMOLLM2, LLAMA2_7B = (9, 3, 64), (32, 32, 128)
"""Query heads, key heads and features of a head."""


@pytest.fixture
def kernel(monkeypatch) -> list[tuple[int, int]]:
    """flex_attention replaced by nothing; gives the rows and columns of each call."""
    calls = []

    def attend(query, key, *args, **kwargs):
        calls.append((query.shape[-2], key.shape[-2]))
        return torch.empty_like(query), AuxOutput(lse=query.new_empty(query.shape[:3], dtype=torch.float32))

    monkeypatch.setattr(flex, "_compiled", lambda: attend)
    return calls


def launches(shape: tuple[int, int, int], length: int, dtype=torch.bfloat16, chunks: int = 1, **config) -> list[str]:
    """The launches of one layer in the last of so many chunks, after another layer has read it: masks are there."""
    query_heads, key_heads, width = shape
    counts = query_heads, key_heads, key_heads
    config = LambdaConfig(4096, 10, 4096, **config)
    layer = AttentionLayer(config, RotaryPositions(torch.ones(width // 2, dtype=torch.float64)), width**-0.5)
    with fake_cuda() as launched:
        pasts = [LambdaLayer(config) for _ in range(2)]
        for _ in range(chunks):
            layer.positions.begin_forward(1, length)
            for past in pasts:
                launched.clear()
                heads = [torch.empty(1, length, count, width, dtype=dtype, device=GPU) for count in counts]
                lambda_attention(*(x.transpose(1, 2) for x in heads), layer, past)
        return launched


def test_a_chunk_of_a_stream_is_one_segment_of_few_launches(kernel):
    """Of 49,152 tokens; in segments of 8,192 it was 374."""
    assert len(launches(SMOLLM2, 49_152, chunks=3)) <= 64
    assert kernel[-1] == (49_152, 49_152 + 4095)


def test_a_long_prompt_is_a_few_segments_beyond_its_first_window(kernel):
    launches(SMOLLM2, 200_000)
    rows = [65_536, 65_536, 200_000 - 4096 - 2 * 65_536]
    assert kernel == 2 * [(size, size + 4095) for size in rows]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [SMOLLM2, LLAMA2_7B])
def test_blockwise_takes_large_blocks_on_a_gpu(shape, dtype):
    """Of 8,192 tokens, half of them beyond the window's beginning; with the blocks of a CPU it was 2,850 to 22,866."""
    assert len(launches(shape, 8192, dtype, backend="blockwise")) <= 550


def chosen(device: str, width: int, value_width: int, dtype=torch.bfloat16, **config):
    layer = AttentionLayer(LambdaConfig(64, 4, 64, **config), AlibiPositions(torch.ones(2)), 0.25)
    with fake_cuda():
        query, value = (torch.empty(1, 2, 8, x, device=device, dtype=dtype) for x in (width, value_width))
        return choose_backend(layer, query, value).attend


@pytest.mark.parametrize(
    ("device", "widths", "config", "attend"),
    [
        ("cpu", (64, 64), {}, attend_blockwise),
        (GPU, (64, 64), {}, attend_flex),
        (GPU, (16, 16), {}, attend_flex),
        (GPU, (8, 8), {}, attend_blockwise),
        (GPU, (64, 8), {}, attend_blockwise),
        (GPU, (64, 64), {"dtype": torch.float16}, attend_flex),
        (GPU, (64, 64), {"dtype": torch.float32}, attend_blockwise),
        (GPU, (64, 64), {"dtype": torch.float32, "backend": "flex"}, attend_flex),
        (GPU, (64, 64), {"triangle_offset": 1.0}, attend_blockwise),
        (GPU, (64, 64), {"backend": "blockwise"}, attend_blockwise),
        ("cpu", (8, 8), {"backend": "flex"}, attend_flex),
    ],
)
def test_the_fastest_backend_that_takes_the_tensors(device, widths, config, attend):
    assert chosen(device, *widths, **config) is attend


@pytest.mark.parametrize("widths", [(8, 8), (8, 64), (64, 8)])
def test_flex_by_name_refuses_narrow_heads_on_a_gpu_in_one_sentence(widths):
    with pytest.raises(UserError, match="^--backend flex needs heads of at least 16 features .* have 8: take"):
        chosen(GPU, *widths, backend="flex")
