"""Which backend attends, and what a layer launches on a GPU: counted, where there need not be one."""

import pytest
import torch
from torch.nn.attention.flex_attention import AuxOutput

from models.attention.decode.cache import LambdaLayer
from models.attention.positions import RotaryPositions
from models.attention.prefill import choice, flex
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
    config = LambdaConfig(**{"local_branch": 4096, "global_branch": 10, "limit_distance": 4096, **config})
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


@pytest.fixture
def has_flash(monkeypatch) -> None:
    monkeypatch.setattr(choice, "lacks_flash", lambda device, dtype: None)


def test_a_chunk_of_a_stream_is_one_segment_of_few_launches(kernel):
    """Of 49,152 tokens; in segments of 8,192 it was 374, and 51 before rotation and merging were fused."""
    assert len(launches(SMOLLM2, 49_152, chunks=3)) <= 25
    assert kernel[-1] == (49_152, 49_152 + 4095)


@pytest.mark.parametrize("shape", [SMOLLM2, LLAMA2_7B])
@pytest.mark.parametrize(("limit", "most"), [(4096, 20), (8192, 23), (None, 19)])
def test_flash_attends_a_chunk_in_few_launches(shape, limit, most, has_flash):
    launched = launches(shape, 49_152, chunks=3, limit_distance=limit)
    assert launched.count("_flash_attention_forward") == launched.count("merge_into") == 1
    assert len(launched) <= most, launched


def test_texts_shorter_than_the_global_branch_compile_nothing_for_each_length(has_flash):
    config = {"local_branch": 64, "global_branch": 4096, "limit_distance": 64}
    assert "weigh_first_tokens" not in launches(SMOLLM2, 1000, **config)
    assert "weigh_first_tokens" in launches(SMOLLM2, 5000, **config)


def test_without_compiling_no_function_is_fused(has_flash):
    launched = launches(SMOLLM2, 49_152, chunks=3, compiled=False)
    assert "_flash_attention_forward" in launched
    assert not {"turn_pairs", "weigh_first_tokens", "merge_into"} & set(launched)


def test_no_layer_puts_its_rotary_table_together(has_flash):
    """Wherever a chunk begins: it was a `cat` for cosine and sine, query and key."""
    for length in (49_152, 50_000, 128_000):
        assert "cat" not in launches(SMOLLM2, length, chunks=1)


def test_a_long_prompt_is_a_few_segments_beyond_its_first_window(kernel):
    launches(SMOLLM2, 200_000)
    rows = [65_536, 65_536, 200_000 - 4096 - 2 * 65_536]
    assert kernel == 2 * [(size, size + 4095) for size in rows]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [SMOLLM2, LLAMA2_7B])
def test_blockwise_takes_large_blocks_on_a_gpu(shape, dtype):
    """Of 8,192 tokens, half of them beyond the window's beginning; with the blocks of a CPU it was 2,850 to 22,866."""
    assert len(launches(shape, 8192, dtype, backend="blockwise")) <= 550
