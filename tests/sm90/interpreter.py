"""Code that inductor writes for a GPU, run on the CPU: its Triton kernels by Triton's interpreter, on real numbers.

TRITON_INTERPRET has to be 1 before Triton is imported, so this takes a process of its own.
"""

from . import lowering  # isort: skip  first: before torch looks for devices

import inspect
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch._inductor.async_compile import AsyncCompile
from torch._inductor.decomposition import select_decomp_table
from torch._subclasses import FakeTensorMode
from torch.nn.attention.flex_attention import AuxOutput

from models.attention import compiled
from models.attention.config import AttentionLayer
from models.attention.prefill import flex, rolling_window

GPU, CPU = torch.device("cuda:0"), torch.device("cpu")
COMPILE_WHOLE = compiled.compile_whole


@triton.jit
def _exp(x):
    return tl.exp(x)


@triton.jit
def _log(x):
    return tl.log(x)


@triton.jit
def _isnan(x):
    return x != x


LIBDEVICE = SimpleNamespace(exp=_exp, log=_log, isnan=_isnan)
"""For the functions of CUDA's library, of which the interpreter has none."""


class _Kernel:
    """Stands in for a compiled kernel: runs its blocks one after the other, of the sizes that a GPU is given first."""

    def __init__(self, name: str, source: str) -> None:
        with lowering.caught() as told, TemporaryDirectory() as folder:
            path = Path(folder, f"{name}.py")
            path.write_text(source)
            module = lowering.imported(path)
            module.libdevice = LIBDEVICE
            self.function = getattr(module, name)
            self.blocks = told["config"].kwargs
        self.names = [name for name in inspect.signature(self.function.fn).parameters if name not in self.blocks]

    def run(self, *args: Any, stream: int) -> None:
        given = dict(zip(self.names, args))
        self.function[args[len(self.names) :] or self._grid(given)](**given, **self.blocks)

    def _grid(self, given: dict[str, Any]) -> tuple[int, ...]:
        counts = [(given[f"{dim}numel"], self.blocks[f"{dim.upper()}BLOCK"]) for dim in "xyz" if f"{dim}numel" in given]
        return tuple(-(-count // block) for count, block in counts)


def at(x: Tensor, device: torch.device) -> Tensor:
    """x on the CPU, and one like it without numbers on a GPU."""
    return x if device == CPU else torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=device)


def run_as_on_gpu(call: Callable[[torch.device], Tensor]) -> tuple[Tensor, list[str]]:
    """`call(CPU)`, in which every function that a GPU would compile is run by the kernels that it would be compiled to.

    call: takes its tensors `at` the device that it is given. It is called with a GPU first, for the code to be written.
    Gives the names of the kernels too.
    """
    written: deque[str] = deque()
    with _compiling_by(partial(_Writer, written)), FakeTensorMode(allow_non_fake_inputs=True):
        call(GPU)
    names = [name for code in written for name, _ in lowering.SOURCES.findall(code)]
    with _compiling_by(partial(_Reader, written)), _as_on_gpu(_Reader(written, flex.flex_attention)):
        result = call(CPU)
    assert not written
    return result, names


@contextmanager
def _compiling_by(stand_in: Callable) -> Iterator[None]:
    """In it `stand_in(function)` is what a function is compiled to."""
    flex._compiled.cache_clear()
    # Strides of an empty tensor are others where tensors have no numbers.
    fuses = mock.patch.object(AttentionLayer, "fuses", lambda layer, x: x.numel() > 0)
    everywhere = [mock.patch.object(module, "compile_whole", stand_in) for module in (compiled, flex)]
    with mock.patch.dict(compiled._FUSED, clear=True), fuses, everywhere[0], everywhere[1]:
        yield


@contextmanager
def _as_on_gpu(flex_attention: Callable) -> Iterator[None]:
    """In it the CPU does what depends on the device as a GPU does."""

    def by_token(query: Tensor, value: Tensor) -> Tensor:
        batch, heads, count = query.shape[:3]
        return query.new_empty(batch, count, heads, value.shape[-1]).transpose(1, 2)

    output = mock.patch.object(rolling_window, "new_output", by_token)
    with output, mock.patch.object(flex, "flex_attention", flex_attention):
        yield


class _Writer:
    """Stands in for what torch.compile makes of `function`: keeps the code, and gives tensors without numbers."""

    def __init__(self, written: deque[str], function: Callable) -> None:
        self.function, self.written = function, written

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.written.append(lowering.written_by(lambda: COMPILE_WHOLE(self.function)(*args, **kwargs)))
        if self.function is not flex.flex_attention:
            return self.function(*args, **kwargs)
        query = args[0]
        lse = torch.empty(query.shape[:-1], dtype=torch.float32, device=query.device)
        return torch.empty_like(query), AuxOutput(lse=lse)


class _Reader:
    """Stands in for the same on the CPU: runs the code that was kept."""

    def __init__(self, written: deque[str], function: Callable) -> None:
        self.function, self.written = function, written

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        code = self.written.popleft()

        def load(graph: torch.fx.GraphModule, inputs: list) -> Callable:
            return _loaded(code)

        backend = aot_autograd(
            fw_compiler=load, decompositions=select_decomp_table(), keep_inference_input_mutations=True
        )
        torch._dynamo.reset()  # each call has code of its own
        return COMPILE_WHOLE(self.function, backend)(*args, **kwargs)


def _loaded(code: str) -> Callable[[list], tuple]:
    """What inductor's code does with a list of inputs, on the CPU."""
    module: dict[str, Any] = {"__name__": "written"}
    with mock.patch.object(AsyncCompile, "triton", lambda _, name, source, device_str: _Kernel(name, source)):
        exec(code, module)
    module["empty_strided_cuda"] = lambda size, stride, dtype: torch.empty_strided(size, stride, dtype=dtype)

    def call(inputs: list) -> tuple:
        return module["call"](inputs)

    call._boxed_call = True
    return call
