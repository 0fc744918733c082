"""Queries that grow with their position in the text: a temperature of how much has been read, not a distance."""

import torch
from torch import Tensor


def warmed(query: Tensor, positions: Tensor, beta: float, interval: float, first: int = 0) -> Tensor:
    """A query `[B, H, n, d]` times `1 + beta * log(1 + floor((position + first) / interval))`, in its dtype.

    positions: int64 `[B or 1, n]`, counted from 0.
    """
    steps = torch.div((positions + first).double(), interval).floor()
    factor = (1 + beta * steps.log1p()).to(torch.promote_types(query.dtype, torch.float32))
    return (query * factor[:, None, :, None]).to(query.dtype)
