"""torch's flash attention where there is no GPU: the same operator, dense, registered as FA3 and FA4 are for CUDA."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor
from torch.library import _scoped_library

from models.attention.prefill import choice


def dense_flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cum_seq_q: None,
    cum_seq_k: None,
    max_q: int,
    max_k: int,
    dropout_p: float,
    is_causal: bool,
    return_debug_mask: bool,
    *,
    scale: float,
    window_size_left: int,
    window_size_right: int,
) -> tuple[Tensor, ...]:
    """`[B, n, H, d]` in and out, computed in float64; the last query is aligned with the last key, natural logarithms.

    What the operator can do besides is not among its arguments.
    """
    assert (max_q, max_k) == (query.shape[1], key.shape[1]) and not (dropout_p or is_causal or return_debug_mask)
    assert cum_seq_q is None and cum_seq_k is None and query.shape[-1] % 8 == 0
    group = query.shape[2] // key.shape[2]
    key, value = (x.repeat_interleave(group, 2).double() for x in (key, value))
    scores = scale * torch.einsum("bihd,bjhd->bhij", query.double(), key)
    distance = torch.arange(max_q)[:, None] + max_k - max_q - torch.arange(max_k)
    outside = (distance > window_size_left) | (distance < -window_size_right)
    scores = scores.masked_fill(outside, float("-inf"))
    output = torch.einsum("bhij,bjhd->bihd", scores.softmax(-1), value).to(query.dtype)
    unused = query.new_empty(0)
    return output, scores.logsumexp(-1).float(), unused, unused, unused


@contextmanager
def flash_on_cpu() -> Iterator[None]:
    """In it, the flash backend attends on the CPU, in every precision."""
    with _scoped_library("aten", "IMPL") as library, mock.patch.object(choice, "lacks_flash", lambda *_: None):
        library.impl("_flash_attention_forward", dense_flash, "CPU")
        yield
