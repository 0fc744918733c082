"""Copies of tensors on the CPU, which a GPU makes while it computes on."""

from collections.abc import Mapping

import torch
from torch import Tensor


class HostCopies:
    """Copies of tensors as they are now, whatever is computed later; `wait`, in any thread, gives them.

    From a GPU they go into pinned memory, in the order of what it was told to compute, so nothing waits for them here.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._copies = {name: _begin_copy(tensor) for name, tensor in tensors.items()}
        devices = {tensor.device for tensor in tensors.values() if tensor.is_cuda}
        self._ends = [_end_of_what_is_told(device) for device in devices]

    def wait(self) -> dict[str, Tensor]:
        """The copies by name, contiguous, once all are there."""
        for end in self._ends:
            end.synchronize()
        return self._copies


def _begin_copy(tensor: Tensor) -> Tensor:
    if tensor.is_cuda:
        return _pinned(tensor).copy_(tensor, non_blocking=True)
    return torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor)


def _pinned(like: Tensor) -> Tensor:
    """Memory for a tensor's numbers that a GPU can write to by itself."""
    return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)


def _end_of_what_is_told(device: torch.device) -> torch.cuda.Event:
    event = torch.cuda.Event(blocking=True)  # waiting for it takes no processor
    event.record(torch.cuda.current_stream(device))
    return event
