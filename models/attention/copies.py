"""A tensor on whichever device asks for it."""

from functools import lru_cache

import torch
from torch import Tensor


class Copies:
    """A tensor on the device where it is needed, copied there once."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor, self._copied = tensor, lru_cache(maxsize=None)(tensor.to)

    def __call__(self, device: torch.device) -> Tensor:
        # torch.compile does not look into caches of functions
        return self._tensor if self._tensor.device == device else self._copied(device)
