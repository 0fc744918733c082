"""The kernels that an H100 would run, interpreted, beside blockwise and the dense definition: `make test-sm90`."""

from . import interpreter  # isort: skip  first: before torch looks for devices

import pytest
import torch
from torch import Tensor

from models.attention.config import AttentionLayer, LambdaConfig
from models.attention.positions import AlibiPositions, PositionEncoding, RotaryPositions, alibi_slopes
from models.lambda_attention import lambda_attention
from tests.dense_reference import dense_lambda_attention, half_split_rotary

BATCH, HEADS, KEY_HEADS, LENGTH = 2, 9, 3, 300  # two whole blocks of 128 and a part of one


def positions_of(width: int, alibi: bool) -> PositionEncoding:
    if alibi:
        return AlibiPositions(alibi_slopes(HEADS))
    return RotaryPositions(1e4 ** -(torch.arange(0, width, 2, dtype=torch.float64) / width))


def attention(tensors: tuple[Tensor, ...], config: LambdaConfig, alibi: bool, device: torch.device) -> Tensor:
    width = tensors[0].shape[-1]
    layer = AttentionLayer(config, positions_of(width, alibi), width**-0.5)
    return lambda_attention(*(interpreter.at(x, device) for x in tensors), layer)


@pytest.mark.parametrize(
    ("width", "local", "limit", "alibi", "kernels"),
    [(64, 290, 290, False, 1), (80, 150, 60, False, 2), (96, 150, None, False, 1), (64, 150, 60, True, 1)],
)
@torch.no_grad()
def test_flex_with_all_around_it_is_blockwise_and_the_definition(width, local, limit, alibi, kernels):
    generator = torch.Generator().manual_seed(0)
    shapes = [(BATCH, LENGTH, heads, width) for heads in (HEADS, KEY_HEADS, KEY_HEADS)]
    tensors = tuple(torch.randn(shape, generator=generator).transpose(1, 2) for shape in shapes)
    config = {"local_branch": local, "global_branch": 5, "limit_distance": limit}

    def attend(device: torch.device) -> Tensor:
        return attention(tensors, LambdaConfig(**config, backend="flex"), alibi, device)

    found, names = interpreter.run_as_on_gpu(attend)
    assert sum(name.startswith("triton_tem") for name in names) == kernels
    blockwise = attention(tensors, LambdaConfig(**config, backend="blockwise"), alibi, interpreter.CPU)
    torch.testing.assert_close(found, blockwise, rtol=0, atol=2e-6)
    positions = positions_of(width, alibi)
    rotary = None if alibi else half_split_rotary(positions.inv_freq)
    dense = dense_lambda_attention(
        *(x[0] for x in tensors), LambdaConfig(**config), rotary, positions.slopes, width**-0.5
    )
    torch.testing.assert_close(found[0].double(), dense, rtol=0, atol=2e-6)
