"""RMSNorm, which Transformers writes out in eight tensor operations: on a GPU torch's own kernel, which is one.

Written out it passes over the hidden states in float32 once for each operation, twice in every layer. On the CPU, for
which torch has no kernel, bfloat16 is one pass of C++, `native/rows.cpp`, where `make` or pip has built it; all else is
written out for so many tokens at a time that they stay in the cache: the same numbers.
"""

import ctypes
from collections.abc import Callable, Iterator
from functools import cache as remember

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..assumptions import NORM, NORM_EPSILON, WRAPPED_FORWARD
from .native.library import compiled
from .workers import has_plain_memory, may_share

ARGUMENTS = (*(3 * [ctypes.c_void_p]), *(2 * [ctypes.c_int64]), ctypes.c_float)

CACHED_FEATURES = 2**19
"""Of the tokens at a time, on the CPU."""
DTYPES = torch.float32, torch.bfloat16, torch.float16
"""Others are computed in float32 by Transformers, and in their own precision by torch."""


def rms_norms(model: nn.Module) -> Iterator[nn.Module]:
    """The RMSNorms of a model that have the forward of their class.

    A forward that somebody has replaced, by a kernel of their own, is left to them. So are Gemma's, whose weights are
    counted from 1, and which keep their epsilon under another name.
    """
    return (module for module in model.modules() if _is_rms_norm(module))


def _is_rms_norm(module: nn.Module) -> bool:
    kind, forward = type(module), getattr(module, WRAPPED_FORWARD, module.forward)
    return (
        kind.__module__.startswith("transformers.")
        and kind.__name__.endswith(NORM)
        and hasattr(module, NORM_EPSILON)
        and [name for name, _ in module.named_parameters(recurse=False)] == ["weight"]
        and getattr(forward, "__func__", None) is kind.forward
    )


def fused_norm(self: nn.Module, hidden_states: Tensor) -> Tensor:
    """The forward of such a norm, `[..., n, d]` in and out: one kernel or pass, or the forward of its class."""
    normalize = _kernel(type(self), hidden_states, self.weight)
    if normalize is None:
        return _written_out(self, hidden_states)
    # It takes contiguous rows: heads, `[B, H, n, d]`, are so token by token.
    by_token = hidden_states.dim() == 4 and not hidden_states.is_contiguous()
    rows = hidden_states.transpose(1, 2) if by_token else hidden_states
    normed = normalize(rows, self.weight, getattr(self, NORM_EPSILON))
    return normed.transpose(1, 2) if by_token else normed


def _kernel(kind: type[nn.Module], x: Tensor, weight: Tensor) -> Callable[[Tensor, Tensor, float], Tensor] | None:
    """Torch's on a GPU, the compiled pass on the CPU; None where neither gives what the class gives."""
    if _takes_kernel(x, weight):
        return _by_torch
    return _by_pass if _takes_pass(x, weight) and _rounds_twice(kind.forward) and built_pass() is not None else None


def _by_torch(rows: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return F.rms_norm(rows, weight.shape, weight, epsilon)


def _by_pass(rows: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    rows, weight = rows.contiguous(), weight.contiguous()
    normed, width = torch.empty_like(rows), len(weight)
    built_pass()(rows.data_ptr(), weight.data_ptr(), normed.data_ptr(), rows.numel() // width, width, epsilon)
    return normed


def built_pass() -> Callable[..., None] | None:
    """The compiled pass, where there is one."""
    return compiled("rms_norm", ARGUMENTS)


def _takes_pass(x: Tensor, weight: Tensor) -> bool:
    is_half = x.dtype == weight.dtype == torch.bfloat16
    return is_half and weight.shape == x.shape[-1:] and has_plain_memory(x, weight)


@remember
def _rounds_twice(forward: Callable[..., Tensor]) -> bool:
    """Whether a class's forward is `_llamas_forward`, of which most classes have a copy."""
    return _meaning(forward) == _meaning(_llamas_forward)


def _meaning(function: Callable[..., Tensor]) -> tuple[object, ...] | None:
    """What two functions that do the same have in common, whatever their names and docstrings; None for no function."""
    code = getattr(function, "__code__", None)
    if code is None or code.co_freevars:  # a wrapper does what it has been given
        return None
    return code.co_code, code.co_names, [value for value in code.co_consts if isinstance(value, (int, float))]


def _llamas_forward(self: nn.Module, hidden_states: Tensor) -> Tensor:
    """What the compiled pass computes: rounded before the product with the weight, and after it."""
    input_dtype = hidden_states.dtype
    hidden_states = hidden_states.to(torch.float32)
    variance = hidden_states.pow(2).mean(-1, keepdim=True)
    hidden_states = hidden_states * torch.rsqrt(variance + self.variance_epsilon)
    return self.weight * hidden_states.to(input_dtype)


def _written_out(norm: nn.Module, hidden_states: Tensor) -> Tensor:
    forward, shape = type(norm).forward, hidden_states.shape
    is_one_dtype = hidden_states.dtype == norm.weight.dtype  # else it depends on the class which one the result has
    if not (may_share(hidden_states, norm.weight) and is_one_dtype and hidden_states.numel() > CACHED_FEATURES):
        return forward(norm, hidden_states)
    dim = max(range(len(shape) - 1), key=shape.__getitem__, default=None)  # tokens, wherever heads stand
    if dim is None:
        return forward(norm, hidden_states)
    at_once = max(1, CACHED_FEATURES * shape[dim] // hidden_states.numel())
    normed = hidden_states.new_empty(shape)
    for part, out in zip(hidden_states.split(at_once, dim), normed.split(at_once, dim)):
        out.copy_(forward(norm, part))
    return normed


def _takes_kernel(x: Tensor, weight: Tensor) -> bool:
    """Not within torch.compile, which fuses what is written out, nor under autocast, which would give float32."""
    return (
        x.is_cuda
        and x.dtype == weight.dtype
        and x.dtype in DTYPES
        and weight.shape == x.shape[-1:]
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled(x.device.type)
    )
