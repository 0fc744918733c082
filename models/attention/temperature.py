"""Queries that grow with their position in the text: a temperature of how much has been read, not a distance."""

import torch
from torch import Tensor

RAISED_EVERY, RAISED_BY = 2048, 0.1
"""Beam's: tokens, and the exponent."""


def raised(query: Tensor, positions: Tensor) -> Tensor:
    """A query `[B, H, n, d]` times `(1 + (position + 1) / 2048) ** 0.1` (scalable softmax), as in `warmed`."""
    return _times(query, (1 + (positions + 1).double() / RAISED_EVERY) ** RAISED_BY)


def warmed(query: Tensor, positions: Tensor, beta: float, interval: float, first: int = 0) -> Tensor:
    """A query `[B, H, n, d]` times `1 + beta * log(1 + floor((position + first) / interval))`, in its dtype.

    positions: int64 `[B or 1, n]`, counted from 0.
    """
    steps = torch.div((positions + first).double(), interval).floor()
    return _times(query, 1 + beta * steps.log1p())


def _times(query: Tensor, factor: Tensor) -> Tensor:
    """factor: float64 `[B or 1, n]`."""
    factor = factor.to(torch.promote_types(query.dtype, torch.float32))
    return (query * factor[:, None, :, None]).to(query.dtype)
