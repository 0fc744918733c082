"""Tensors that say they are on a GPU, on a machine without one: what would be launched there can be counted.

with fake_cuda() as launched:
    attend(torch.empty(..., device=GPU))
assert len(launched) < 60
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from models.attention import compiled

GPU = "cuda:7"
"""One that is not there: caches by device never give a tensor without numbers to a real one."""
INSTEAD = {
    Tensor.copy_: torch.ops.aten.copy_,
    Tensor.contiguous: lambda x: x if x.is_contiguous() else x.clone(memory_format=torch.contiguous_format),
    torch.tensor: lambda data, device="cpu": torch.empty(len(data), dtype=torch.int64, device=device),
    Tensor.__invert__: torch.ops.aten.bitwise_not,
    torch.equal: lambda one, other: one.shape == other.shape,  # they have no numbers
}
UNLAUNCHED = (
    "_unsafe_view",
    "empty",
    "new_empty",
    "empty_like",
    "empty_strided",
    "new_empty_strided",
    "detach",
    "promote_types",
)

_MODE = FakeTensorMode(allow_non_fake_inputs=True)  # one for all tests: what caches keep belongs to it


class _Launches(TorchDispatchMode):
    """Collects names of the operators that run a kernel: views and allocations do not."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        name = operator.overloadpacket.__name__
        if operator.namespace != "prim" and name not in UNLAUNCHED and not _is_view(operator):
            self.names.append(name)
        return operator(*args, **(kwargs or {}))


def _is_view(operator) -> bool:
    returns = operator._schema.returns
    return bool(returns) and all(x.alias_info is not None and not x.alias_info.is_write for x in returns)


class _WithoutBindings(TorchFunctionMode):
    """`x[...]` and INSTEAD by operators: their bindings would ask a torch without CUDA for its device."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is Tensor.__getitem__:
            return _view(*args)
        if function is Tensor.__setitem__:
            return torch.ops.aten.copy_(_view(*args[:2]), args[2])
        return INSTEAD.get(function, function)(*args, **(kwargs or {}))


def _view(x: Tensor, index) -> Tensor:
    """The part of x at an index of slices, integers, one tensor of integers, None and an ellipsis."""
    index, dim = index if isinstance(index, tuple) else (index,), 0
    for at, part in enumerate(index):
        if part is None:
            x, dim = x.unsqueeze(dim), dim + 1
        elif part is Ellipsis:
            dim = x.dim() - sum(after is not None for after in index[at + 1 :])
        elif isinstance(part, slice):
            x, dim = torch.ops.aten.slice(x, dim, part.start, part.stop, part.step or 1), dim + 1
        elif isinstance(part, Tensor):
            x, dim = x.index_select(dim, part), dim + 1
        else:
            x = x.select(dim, part)
    return x


def _fused(names: list[str]) -> Callable[[Callable], Callable]:
    """A stand-in of `compile_whole`: what it makes of a function is one launch, of the function's name."""

    def compile_whole(function: Callable) -> Callable:
        def run(*args):
            before = len(names)
            result = function(*args)
            names[before:] = [function.__name__]
            return result

        return run

    return compile_whole


@contextmanager
def fake_cuda() -> Iterator[list[str]]:
    """In it, tensors made on `GPU` have shapes, dtypes and strides but no numbers; gives names of what is launched.

    A function that is compiled there is one launch: `tests/models/attention/test_compiled.py` counts its kernels.
    """
    launches = _Launches()
    fused = mock.patch.object(compiled, "compile_whole", _fused(launches.names))
    with fused, mock.patch.dict(compiled._FUSED, clear=True), _MODE, launches, _WithoutBindings():
        yield launches.names


def on_gpu(model: nn.Module) -> nn.Module:
    """A model made within `fake_cuda`, with its weights there."""
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            empty = torch.empty(weight.shape, dtype=weight.dtype, device=GPU)
            setattr(module, name, nn.Parameter(empty, requires_grad=False))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype, device=GPU))
    return model
