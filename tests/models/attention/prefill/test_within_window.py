"""The first tokens by torch's own attention: what it is given, so that one of its fused kernels takes it."""

import pytest
import torch
import torch.nn.functional as F

from models.attention.prefill import within_window
from models.lambda_attention import LambdaConfig
from tests.fake_cuda import GPU, fake_cuda
from tests.models.attention.attention_cases import make_case


@pytest.mark.parametrize(
    ("device", "dtype", "key_heads", "shares"),
    [
        ("cpu", torch.float32, 2, True),
        (GPU, torch.bfloat16, 2, True),
        (GPU, torch.float32, 6, False),
        (GPU, torch.float64, 6, False),
    ],
)
def test_keys_are_repeated_where_no_fused_kernel_shares_them(device, dtype, key_heads, shares, monkeypatch):
    given = {}

    def attend(query, key, value, enable_gqa, **options):
        given.update(shapes={key.shape, value.shape}, enable_gqa=enable_gqa)
        return query

    monkeypatch.setattr(F, "scaled_dot_product_attention", attend)
    case = make_case(LambdaConfig(64, 4, 64), 50)
    with fake_cuda():
        query, key, value = (torch.empty(1, heads, 50, 8, dtype=dtype, device=device) for heads in (6, 2, 2))
        segment = within_window.Segment(query, 0, 0, key, None, value, key[:, :, :4], value[:, :, :4])
        within_window.attend_within_window(segment, case.layer, torch.empty_like(query))
    assert given == {"shapes": {(1, key_heads, 50, 8)}, "enable_gqa": shares}


def test_repeated_keys_give_the_same():
    query, key, value = (torch.randn(2, heads, 50, 16) for heads in (6, 2, 2))
    shared = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    repeated = [x.repeat_interleave(3, 1) for x in (key, value)]
    own = F.scaled_dot_product_attention(query, *repeated, is_causal=True)
    torch.testing.assert_close(own, shared, rtol=0, atol=2e-6)
