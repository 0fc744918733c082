"""torch's fused attention on the CPU, by the operator that its own attention calls, which gives the log-sum-exp too."""

from contextlib import suppress
from functools import lru_cache

import torch
from torch import Tensor

OPERATOR = "_scaled_dot_product_flash_attention_for_cpu"


def has_fused_cpu() -> bool:
    """Whether this torch has the operator."""
    return hasattr(torch.ops.aten, OPERATOR)


def attend_fused_cpu(query: Tensor, key: Tensor, value: Tensor, scale: float, causal: bool) -> tuple[Tensor, Tensor]:
    """Output `[B, Hq, m, d]` and log-sum-exp of scores `[B, Hq, m]`, at least float32.

    query `[B, Hq, m, d]`, key and value `[B, Hkv, k, d]`. causal: the first query to the first key, and so on.
    """
    group = query.shape[1] // key.shape[1]
    if group > 1 and not _shares_key_heads():
        key, value = (x.repeat_interleave(group, 1) for x in (key, value))
    return getattr(torch.ops.aten, OPERATOR)(query, key, value, 0.0, causal, scale=scale)


@lru_cache(maxsize=1)
def _shares_key_heads() -> bool:
    """Whether the operator lets query heads share key heads, as torch 2.13's does, or takes as many of both."""
    query, key = torch.randn(1, 4, 3, 16, device="cpu"), torch.randn(1, 2, 3, 16, device="cpu")
    with suppress(RuntimeError):
        operator = getattr(torch.ops.aten, OPERATOR)
        shared, repeated = (operator(query, x, x, 0.0, False)[0] for x in (key, key.repeat_interleave(2, 1)))
        return torch.allclose(shared, repeated, rtol=0, atol=1e-5)
    return False
