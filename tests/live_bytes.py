"""The bytes of tensors that are alive at once: counted as torch makes them, the same on every machine.

with LiveBytes() as count:
    model(input_ids)
assert count.peak < 2**20
"""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts storages that operators make within the block. peak: the most bytes of them that were alive together."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: dict[int, weakref.finalize] = {}

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        given = {_place(x) for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        output = operator(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, torch.Tensor) and _place(tensor) not in given:
                self._count(tensor.untyped_storage())
        return output

    def _count(self, storage: torch.UntypedStorage) -> None:
        place, size = storage._cdata, storage.nbytes()
        if size == 0 or place in self._seen:
            return
        self._seen[place] = weakref.finalize(storage, self._forget, place, size)
        self.now += size
        self.peak = max(self.peak, self.now)

    def _forget(self, place: int, size: int) -> None:
        del self._seen[place]
        self.now -= size


def _place(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata
