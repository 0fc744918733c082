"""RMSNorm, which Transformers writes out in eight tensor operations: on a GPU torch's own kernel, which is one.

Written out it passes over the hidden states in float32 once for each operation, twice in every layer. On the CPU, whose
kernel is slower than that, it goes over so many tokens at a time that they stay in the cache: the same numbers.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..assumptions import NORM, NORM_EPSILON, WRAPPED_FORWARD
from .workers import may_share

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
    """The forward of such a norm, `[..., n, d]` in and out: on a GPU one kernel, elsewhere the forward of its class."""
    if not _takes_kernel(hidden_states, self.weight):
        return _written_out(self, hidden_states)
    # A kernel for contiguous rows: heads, `[B, H, n, d]`, are so token by token.
    by_token = hidden_states.dim() == 4 and not hidden_states.is_contiguous()
    rows = hidden_states.transpose(1, 2) if by_token else hidden_states
    normed = F.rms_norm(rows, self.weight.shape, self.weight, getattr(self, NORM_EPSILON))
    return normed.transpose(1, 2) if by_token else normed


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
