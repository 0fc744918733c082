"""Forwards and attributes of modules that are replaced, and given back."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MethodType

from torch import nn

from ..assumptions import WRAPPED_FORWARD


def forward_name(module: nn.Module) -> str:
    """Accelerate's device hooks keep the forward that they wrap under another name."""
    return WRAPPED_FORWARD if hasattr(module, WRAPPED_FORWARD) else "forward"


def replace_forward(module: nn.Module, forward: Callable) -> None:
    """forward: a function of a file, which is handed the module first. A bound one could not be pickled."""
    setattr(module, forward_name(module), partial(forward, module))


def restore_forward(module: nn.Module) -> None:
    if hasattr(module, WRAPPED_FORWARD):
        setattr(module, WRAPPED_FORWARD, MethodType(type(module).forward, module))
    else:
        del module.forward


def make_nothing(*unread: object, **also_unread: object) -> None:
    """The forward of the model's own rotary embedding, which no converted module reads.

    For some RoPE types it looks at a position on the host: a GPU would wait for it, and no CUDA graph could hold it.
    """


class Replaced:
    """Attributes of a module that are others until `restore`."""

    def __init__(self, module: nn.Module, values: Mapping[str, object]) -> None:
        self.module, self.values = module, values
        self.own = {name: module.__dict__[name] for name in values if name in module.__dict__}
        for name, value in values.items():
            setattr(module, name, value)

    def restore(self) -> None:
        for name in self.values:
            if name in self.own:
                setattr(self.module, name, self.own[name])
            else:
                delattr(self.module, name)  # a method, which its class has
