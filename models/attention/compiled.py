"""Functions by torch.compile that are compiled or an error: none runs as it is where it was to be fused."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

MOST_COMPILED = 256
"""Kinds of inputs that a function is compiled for: a dozen per device, for sizes of 1 are one each. 8, torch's own
limit, are few."""

_LIMITS = {"recompile_limit": MOST_COMPILED, "accumulated_recompile_limit": 4 * MOST_COMPILED}


def compile_whole(function: Callable, backend: str | Callable = "inductor") -> Callable:
    """Compile `function` as one graph for sizes of all kinds. backend: of torch.compile.

    What cannot be compiled, and a kind of inputs beyond MOST_COMPILED, is an error.
    """
    from torch._dynamo import config as dynamo_config  # seconds, which nobody else has to wait for
    from torch.fx.experimental import _config as symbolic_config

    compiled = torch.compile(function, dynamic=True, fullgraph=True, backend=backend)

    def run(*args: Any, **kwargs: Any) -> Any:
        # Sizes that happen to be equal, 64 blocks and a head of 64, are not taken for the same one.
        with dynamo_config.patch(_LIMITS), symbolic_config.patch(use_duck_shape=False):
            return compiled(*args, **kwargs)

    return run


class _Step(threading.local):
    is_static = False


_STEP = _Step()


@contextmanager
def static_step() -> Iterator[None]:
    """While a static step runs in this thread: torch.compile may take what is `untraced` as a part of its graph."""
    _STEP.is_static = True
    try:
        yield
    finally:
        _STEP.is_static = False


def untraced(function: Callable) -> Callable:
    """Have torch.compile run `function` as it is, for it reads numbers that change from forward to forward.

    Traced, some are taken for constants: with the backends of torch that gave wrong logits without an error.
    """
    as_it_is = torch.compiler.disable(function)

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs) if _STEP.is_static else as_it_is(*args, **kwargs)

    return run


_FUSED: dict[Callable, Callable] = {}


def run_fused(function: Callable, fuse: bool, *args: Any) -> Any:
    """Give `function(*args)`: by the one or two kernels that torch.compile makes of it, or operation by operation.

    Tensors are `[B, ..., rows, width]` or `[rows, width]`, or smaller: all sizes but B and rows are those of the model,
    and compiled for. A kernel that did not know them would divide by them at every element, and twice as many be made.
    """
    if not fuse or torch.compiler.is_compiling():  # within a graph that takes it as a part
        return function(*args)
    if function not in _FUSED:
        _FUSED[function] = compile_whole(function)
    for x in tree_leaves(args):
        if isinstance(x, Tensor):
            _hold_sizes(x)
    return _FUSED[function](*args)


def _hold_sizes(x: Tensor) -> None:
    for dim in range(1, x.dim()):
        if dim != x.dim() - 2:
            torch._dynamo.mark_static(x, dim)
