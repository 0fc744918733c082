"""The block masks of the flex backend; its numbers are held against the dense definition with those of the others."""

import dataclasses
from collections.abc import Iterator

import pytest
import torch
import torch._dynamo
from torch.nn.attention.flex_attention import create_block_mask
from torch.utils._python_dispatch import TorchDispatchMode

from models.attention.compiled import compile_whole
from models.attention.decode.cache import LambdaLayer
from models.attention.positions import AlibiPositions, RotaryPositions, alibi_slopes
from models.attention.prefill import first_tokens, flex, rolling_window
from models.attention.prefill.flex import band_mask
from models.lambda_attention import AttentionLayer, LambdaConfig, lambda_attention
from tests.dense_reference import dense_lambda_attention, half_split_rotary


def listed(count: torch.Tensor, indices: torch.Tensor) -> list[list[int]]:
    return [sorted(row[:number].tolist()) for number, row in zip(count[0, 0], indices[0, 0])]


@pytest.mark.parametrize(
    ("rows", "columns", "shift", "nearest", "farthest"),
    [
        (1024, 1024, 0, 0, 300),
        (1000, 1299, 299, 0, 300),
        (512, 900, 388, 200, 1000),
        (70, 70, 0, 0, 8),
        (640, 640, 0, 0, 1),
    ],
)
def test_blocks_are_those_of_the_dense_mask(rows, columns, shift, nearest, farthest):
    def attended(batch, head, row, column):
        return (shift + row - column >= nearest) & (shift + row - column < farthest)

    ours = band_mask(rows, columns, shift, nearest, farthest, torch.device("cpu"))
    dense = create_block_mask(attended, 1, 1, rows, columns, device="cpu")
    assert listed(ours.kv_num_blocks, ours.kv_indices) == listed(dense.kv_num_blocks, dense.kv_indices)
    assert listed(ours.full_kv_num_blocks, ours.full_kv_indices) == listed(
        dense.full_kv_num_blocks, dense.full_kv_indices
    )


def loud_first_tokens(width: int, limit: int | None) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values of bfloat16 whose first four tokens score about 20, alike, and whose window does not."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, heads, 120, width, generator=generator) for heads in (4, 2, 2))
    common = torch.randn(1, 2, 1, width, generator=generator)
    key[:, :, :4] = 1.5 * common + 0.5 * key[:, :, :4]
    felt = rotary(width).at_distance(common, -(limit or 0)).repeat_interleave(2, 1)
    return tuple(x.bfloat16() for x in (0.5 * query + 1.5 * felt, key, value))


def rotary(width: int) -> RotaryPositions:
    return RotaryPositions(1e4 ** -(torch.arange(0, width, 2, dtype=torch.float64) / width))


@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("limit", [16, 40, None])
def test_scores_of_the_first_tokens_are_not_rounded(width, limit, monkeypatch):
    tensors, positions = loud_first_tokens(width, limit), rotary(width)
    layer = AttentionLayer(LambdaConfig(16, 4, limit, backend="flex"), positions, width**-0.5)
    turn = half_split_rotary(positions.inv_freq)
    expected = dense_lambda_attention(*(x[0] for x in tensors), layer.config, turn, None, layer.scale)

    def error() -> float:
        output = lambda_attention(*tensors, layer)[0]
        return float((output.double() - expected)[:, 20:].square().mean().sqrt())

    exact = error()
    monkeypatch.setattr(first_tokens, "multiply_exactly", torch.matmul)
    assert exact < 0.4 * error()
    assert exact < 0.004


SHAPES = [  # rows, columns and offset of segments: prompts of one and many segments, their last ones, texts that go on
    (256, 256, 0),
    (300, 300, 0),
    (300, 363, 63),
    (512, 575, 63),
    (70, 70, 0),
    (70, 133, 63),
    (1, 64, 63),
    (2, 65, 63),
    (2048, 2048, 0),  # 16 blocks, as many as a head is wide
]


@pytest.fixture
def compilations(monkeypatch) -> Iterator[list[int]]:
    """Tensors that say they are on CUDA are attended as there, but for the kernel; gives what was compiled."""
    compiled = []
    torch._dynamo.reset()
    attend = compile_whole(flex.flex_attention, lambda graph, inputs: compiled.append(1) or graph.forward)
    monkeypatch.setattr(flex, "flex_attention", attend)
    yield compiled
    torch._dynamo.reset()


def attend_shape(batch: int, rows: int, columns: int, shift: int, nearest: int = 0, farthest: int = 64) -> None:
    query, key = torch.randn(batch, 4, rows, 16), torch.randn(batch, 2, columns, 16)
    mask = band_mask(rows, columns, shift, nearest, farthest, torch.device("cpu"))
    out, lse = flex._flex(query, key, key, 0.25, None, mask)
    assert out.shape == query.shape and lse.shape == (*query.shape[:3], 1)


def test_kinds_of_shapes_are_compiled_once(compilations):
    """Sizes of 1 are a kind each; all other sizes, offsets and branches are taken by what was compiled for one."""
    for branches in ((0, 64), (0, 40), (40, 64)):
        for shape in SHAPES:
            attend_shape(1, *shape, *branches)
    assert len(compilations) <= 4
    for batch in (2, 3):
        for shape in SHAPES:
            attend_shape(batch, *shape)
    assert len(compilations) <= 8


@pytest.mark.parametrize("limit", [64, 40])
@pytest.mark.parametrize("alibi", [False, True])
def test_keys_and_values_are_contiguous_in_every_segment(limit, alibi, monkeypatch):
    """A last segment, shorter than the others, does not fill the storage that the window rolls in."""
    seen, kernel = [], flex.flex_attention

    def recorded(query, key, value, *args, **kwargs):
        seen.append((key.shape[-2], key.is_contiguous() and value.is_contiguous()))
        return kernel(query, key, value, *args, **kwargs)

    monkeypatch.setattr(flex, "flex_attention", recorded)
    segment = dataclasses.replace(rolling_window.BACKENDS["flex"], segment=100)
    monkeypatch.setitem(rolling_window.BACKENDS, "flex", segment)
    positions = AlibiPositions(alibi_slopes(4)) if alibi else rotary(16)
    layer = AttentionLayer(LambdaConfig(64, 4, limit, backend="flex"), positions, 0.25)
    past = LambdaLayer(layer.config)
    for length in (230, 110):
        lambda_attention(*(torch.randn(2, heads, length, 16) for heads in (4, 2, 2)), layer, past)
    assert {columns for columns, _ in seen} == {100, 163, 93, 73}
    assert all(contiguous for _, contiguous in seen)


@pytest.mark.parametrize("bias", [False, True])
def test_distances_are_32_bits_wide_in_the_kernel(bias):
    """Where rows and columns are, as a kernel has them."""
    index = torch.tensor([3], dtype=torch.int32)
    attended = band_mask(200, 263, 63, 0, 64, torch.device("cpu")).mask_mod
    if bias:
        layer = AttentionLayer(LambdaConfig(64, 4, 40), AlibiPositions(alibi_slopes(4)), 0.25)
        attended = flex._score_mod(layer, 63, torch.device("cpu"))
    with _Integers() as integers:
        attended(*[torch.tensor(1.0)] * bias, index, index, index, index)
    assert integers.dtypes == {torch.int32}


class _Integers(TorchDispatchMode):
    """Collects the integer dtypes of what arithmetic gives."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: set[torch.dtype] = set()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        result = operator(*args, **(kwargs or {}))
        if not result.is_floating_point() and result.dtype != torch.bool:
            self.dtypes.add(result.dtype)
        return result
