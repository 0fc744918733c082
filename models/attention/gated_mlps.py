"""The gate of an MLP, `act(gate) * up`, on the CPU: each thread takes so many tokens that they stay in its cache.

Operation by operation the activations, the widest tensors of a layer, go through memory twice more: the same numbers.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..assumptions import WRAPPED_FORWARD
from .workers import may_share, run_shared

CACHED_FEATURES = 2**17
"""Of the tokens that a thread takes at a time."""


def gated_mlps(model: nn.Module) -> Iterator[nn.Module]:
    """The MLPs of a model whose class has Llama's forward; one that somebody has replaced is left to them."""
    return (module for module in model.modules() if _is_gated_mlp(module))


def _is_gated_mlp(module: nn.Module) -> bool:
    kind, forward = type(module), getattr(module, WRAPPED_FORWARD, module.forward)
    return (
        kind.__module__.startswith("transformers.")
        and getattr(forward, "__func__", None) is kind.forward
        and _is_written_so(kind.forward)
    )


def written_out(self: nn.Module, x: Tensor) -> Tensor:
    """The forward of LlamaMLP and of all classes that are copies of it."""
    down_proj = self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))
    return down_proj  # noqa: RET504: as it is written there


def _is_written_so(forward: object) -> bool:
    own, other = written_out.__code__, getattr(forward, "__code__", None)
    return other is not None and (own.co_code, own.co_names) == (other.co_code, other.co_names)


def gated_mlp(self: nn.Module, x: Tensor) -> Tensor:
    """The forward of such an MLP, `[..., n, d]` in and out; elsewhere than on the CPU that of its class.

    An activation with hooks is called once, with all tokens: ZeRO-3 counts the calls of every module, in which ranks
    with texts of different lengths must agree.
    """
    if x.device.type != "cpu" or self.act_fn._forward_hooks or self.act_fn._forward_pre_hooks:
        return written_out(self, x)
    gate, up = self.gate_proj(x), self.up_proj(x)
    if not may_share(gate, up) or gate.numel() <= CACHED_FEATURES or gate.dtype != up.dtype:
        return self.down_proj(self.act_fn(gate) * up)
    gated = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
    tensors = [tensor.reshape(-1, tensor.shape[-1]) for tensor in (gate, up, gated)]
    at_once = max(1, CACHED_FEATURES // gate.shape[-1])
    run_shared(_write_gated, [(self.act_fn, *part) for part in zip(*(tensor.split(at_once) for tensor in tensors))])
    return self.down_proj(gated)


def _write_gated(act: nn.Module, gate: Tensor, up: Tensor, out: Tensor) -> None:
    torch.mul(act(gate), up, out=out)
