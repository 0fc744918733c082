"""Tensors that say they are on a GPU, on a machine without one: what would be launched there can be counted.

with fake_cuda() as launched:
    attend(torch.empty(..., device="cuda"))
assert len(launched) < 60
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

ALLOCATIONS = ("empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided", "detach")


class _Launches(TorchDispatchMode):
    """Collects names of the operators that run a kernel: views and allocations do not."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        name = operator.overloadpacket.__name__
        if operator.namespace != "prim" and name not in ALLOCATIONS and not _is_view(operator):
            self.names.append(name)
        return operator(*args, **(kwargs or {}))


def _is_view(operator) -> bool:
    returns = operator._schema.returns
    return bool(returns) and all(x.alias_info is not None and not x.alias_info.is_write for x in returns)


@contextmanager
def fake_cuda() -> Iterator[list[str]]:
    """In it, tensors made on "cuda" have shapes, dtypes and strides but no numbers; gives names of what is launched."""
    launches = _Launches()
    with FakeTensorMode(), launches:
        yield launches.names
