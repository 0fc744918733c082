"""Which backend attends, and what a layer launches on a GPU: counted, where there need not be one."""

import pytest
import torch

from models.attention.positions import AlibiPositions
from models.attention.prefill.blockwise import attend_blockwise
from models.attention.prefill.flex import attend_flex
from models.attention.prefill.rolling_window import choose_backend
from models.errors import UserError
from models.lambda_attention import AttentionLayer, LambdaConfig
from tests.fake_cuda import fake_cuda


def chosen(device: str, width: int, value_width: int, **config):
    layer = AttentionLayer(LambdaConfig(64, 4, 64, **config), AlibiPositions(torch.ones(2)), 0.25)
    with fake_cuda():
        query, value = (torch.empty(1, 2, 8, x, device=device, dtype=torch.bfloat16) for x in (width, value_width))
        return choose_backend(layer, query, value).attend


@pytest.mark.parametrize(
    ("device", "widths", "config", "attend"),
    [
        ("cpu", (64, 64), {}, attend_blockwise),
        ("cuda", (64, 64), {}, attend_flex),
        ("cuda", (16, 16), {}, attend_flex),
        ("cuda", (8, 8), {}, attend_blockwise),
        ("cuda", (64, 8), {}, attend_blockwise),
        ("cuda", (64, 64), {"triangle_offset": 1.0}, attend_blockwise),
        ("cuda", (64, 64), {"backend": "blockwise"}, attend_blockwise),
        ("cpu", (8, 8), {"backend": "flex"}, attend_flex),
    ],
)
def test_the_fastest_backend_that_takes_the_tensors(device, widths, config, attend):
    assert chosen(device, *widths, **config) is attend


@pytest.mark.parametrize("widths", [(8, 8), (8, 64), (64, 8)])
def test_flex_by_name_refuses_narrow_heads_on_a_gpu_in_one_sentence(widths):
    with pytest.raises(UserError, match="^--backend flex needs heads of at least 16 features .* have 8: take"):
        chosen("cuda", *widths, backend="flex")
