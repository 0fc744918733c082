"""Distances between queries and keys."""

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=8)
def distances(size: int, count: int, offset: int, device: torch.device) -> Tensor:
    """int64 `[size, count]`: `offset + row - column`."""
    return offset + torch.arange(size, device=device)[:, None] - torch.arange(count, device=device)
