"""What an H100, or with SM=80 an A100, would run for the attention of a whole sequence and of one token."""

from . import lowering  # isort: skip  first: before torch looks for devices

import pytest
import torch
from torch import Tensor

from models.attention import compiled
from models.attention.config import AttentionLayer, LambdaConfig
from models.attention.decode import fused_step
from models.attention.decode.step import Turn
from models.attention.positions import AlibiPositions, RotaryPositions
from models.attention.prefill import flex
from models.attention.prefill.encoding import turn_pairs
from models.attention.prefill.first_tokens import merge_into, weigh_first_tokens
from models.attention.prefill.segment import Segment
from tests.sm90.fake_h100 import CAPABILITY, PROPERTIES

GPU = "cuda:0"
SMOLLM2, LLAMA2_7B = (9, 3, 64), (32, 32, 128)
LOCAL, FIRST = 4096, 10
MOST_STACK = 256
SEGMENTS = {
    "prompt of 16,384": (16_384 - LOCAL, LOCAL - 1),
    "chunk of 49,152": (49_152, LOCAL - 1),
    "chunk of 128,000": (65_536, LOCAL - 1),
    "the rest of it": (128_000 - 65_536, LOCAL - 1),
    "odd rest": (12_345, LOCAL - 1),
}
"""Queries of a segment, and the keys before the first of them."""


@pytest.fixture(autouse=True)
def compiled_anew(monkeypatch):
    monkeypatch.setattr(compiled, "_FUSED", {})
    for kept in (flex._compiled, flex.band_mask):
        kept.cache_clear()


def empty(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.empty(*shape, dtype=dtype, device=GPU)


def floats(*shape: int) -> Tensor:
    return empty(*shape, dtype=torch.float32)


def by_token(batch: int, heads: int, rows: int, width: int) -> Tensor:
    """`[B, H, n, d]` as projections give it."""
    return empty(batch, rows, heads, width).transpose(1, 2)


def flex_kernels(shape, rows: int, before: int, alibi=False, limit=LOCAL, dtype=torch.bfloat16):
    query_heads, key_heads, width = shape
    positions = AlibiPositions(torch.ones(query_heads)) if alibi else RotaryPositions(torch.ones(width // 2).double())
    layer = AttentionLayer(LambdaConfig(LOCAL, FIRST, limit, backend="flex"), positions, width**-0.5)

    def call():
        query = torch.empty_like(by_token(1, query_heads, rows, width), dtype=dtype)
        room = empty(2, 1, key_heads, rows + before + 5, width, dtype=dtype)[:, :, :, : rows + before]
        key, value = room.unbind()
        slopes = floats(query_heads) if alibi else None
        if alibi:
            object.__setattr__(positions, "slopes_on", lambda device: slopes)
        segment = Segment(query, 10_000, 10_000 - before, key, key, value, key[:, :, :FIRST], value[:, :, :FIRST])
        flex._window(query, segment, layer, capped=False if limit < LOCAL else None)

    return [kernel for kernel in lowering.kernels_of(call) if "flex" in kernel.name]


def check_prefill(kernel: lowering.Kernel) -> None:
    assert kernel.tensor_core_products > 0
    assert ("wgmma" in kernel.ptx) == (CAPABILITY == (9, 0))
    assert kernel.stack <= MOST_STACK
    assert kernel.lone_loads_in_loops == 0
    assert kernel.wide_copies > 0
    assert kernel.shared <= PROPERTIES.shared_memory_per_block_optin


@pytest.mark.parametrize("segment", SEGMENTS.values(), ids=SEGMENTS)
@pytest.mark.parametrize("shape", [SMOLLM2, LLAMA2_7B], ids=["SmolLM2", "Llama-2-7B"])
def test_flex_multiplies_on_tensor_cores_and_spills_nothing(shape, segment):
    (kernel,) = flex_kernels(shape, *segment)
    check_prefill(kernel)


@pytest.mark.parametrize("case", [{"alibi": True}, {"limit": 1000}, {"dtype": torch.float16}], ids=str)
@pytest.mark.parametrize("shape", [SMOLLM2, LLAMA2_7B], ids=["SmolLM2", "Llama-2-7B"])
def test_flex_does_so_for_what_flash_cannot_do(shape, case):
    (kernel,) = flex_kernels(shape, 49_152, LOCAL - 1, **case)
    check_prefill(kernel)


def fused(function, *arguments):
    return compiled.run_fused(function, True, *arguments)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("rotary_dim", [64, 32])
@pytest.mark.parametrize("into_window", [False, True])
def test_a_rotation_is_one_kernel(interleaved, rotary_dim, into_window):
    def call():
        x, tables = by_token(1, 9, 49_152, 64), floats(2, 49_152, rotary_dim // 2).unbind()
        out = empty(1, 9, 49_152 + LOCAL, 64)[:, :, LOCAL:] if into_window else torch.empty_like(x)
        fused(turn_pairs, x, *tables, interleaved, None, out)

    (kernel,) = lowering.kernels_of(call)
    assert kernel.stack == 0


@pytest.mark.parametrize(("near", "far", "limit"), [(0, 1, LOCAL), (1, 1, 2 * LOCAL), (1, 0, None)])
@pytest.mark.parametrize("first", [10, 100])
def test_weights_of_first_tokens_are_one_kernel(near, far, limit, first):
    def call():
        products = [floats(1, 9, 49_152, first) if there else None for there in (near, far)]
        config = LambdaConfig(LOCAL, first, limit)
        fused(weigh_first_tokens, *products, None, 10_000, 49_152, config, torch.bfloat16)

    (kernel,) = lowering.kernels_of(call)
    assert kernel.stack == 0


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("shape", [SMOLLM2, LLAMA2_7B], ids=["SmolLM2", "Llama-2-7B"])
def test_joining_is_one_kernel(parts, shape):
    heads, _, width = shape

    def call():
        outputs = [by_token(1, heads, 49_152, width) for _ in range(parts)]
        log_sums = [floats(1, heads, 49_152, 1) for _ in range(parts)]
        fused(merge_into, by_token(1, heads, 70_000, width)[:, :, 1000:50_152], outputs, log_sums)

    (kernel,) = lowering.kernels_of(call)
    assert kernel.stack == 0


STEPS = {"_enter": 2, "_weigh": 3, "_leave": 1}
"""The most kernels of each part of a static step."""


@pytest.mark.parametrize("keys_rest", [True, False])
@pytest.mark.parametrize("shape", [SMOLLM2, LLAMA2_7B], ids=["SmolLM2", "Llama-2-7B"])
@pytest.mark.parametrize("part", STEPS)
def test_a_step_is_few_kernels(part, shape, keys_rest):
    query_heads, key_heads, width = shape
    group = query_heads // key_heads

    def call():
        first = (floats(1, key_heads, group, width), *empty(2, 1, key_heads, FIRST, width).unbind())
        if part == "_enter":
            query, key = (by_token(1, count, 1, width) for count in (query_heads, key_heads))
            tables = floats(2, 1, 2 * query_heads + key_heads, 1, width).unbind()
            turn = Turn(*tables, empty(width, dtype=torch.int64))
            fused(fused_step._enter, query, key, turn, width**-0.5)
        elif part == "_weigh":
            scores, bias = empty(1, key_heads, group, LOCAL), floats(1, 1, 1, LOCAL + FIRST)
            table = None if keys_rest else tuple(floats(2, 1, 1, FIRST, width // 2).unbind())
            fused(fused_step._weigh, scores, bias, first, table, False, torch.bfloat16)
        else:
            window, weights = empty(1, key_heads, group, width), floats(1, key_heads, group, FIRST)
            fused(fused_step._leave, window, weights, first, torch.bfloat16)

    found = lowering.kernels_of(call)
    assert 1 <= len(found) <= STEPS[part], [kernel.name for kernel in found]
    assert all(kernel.stack == 0 for kernel in found)
