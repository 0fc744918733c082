"""The recurrent modules of a model: Transformers' own, whose states a Λ-attention cache holds and keeps count of."""

from functools import partial

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

from ..assumptions import (
    ATTENTION_MASK,
    IN_PROJECTION,
    STATE_CACHE_NAMES,
    find_cache,
    handed_over_otherwise,
    kind_masks,
)
from ..attention.decode.counted import CountedLayer
from ..attention.decode.recurrent import RecurrentLayer
from ..attention.forwards import forward_name, replace_forward, restore_forward
from ..attention.ragged import RealTokens


class RecurrentModules:
    """Those of one converted model; most models have none.

    restarts: whether they forget their states when they read several tokens.
    """

    def __init__(self, modules: list[nn.Module], restarts: bool) -> None:
        self.modules = modules
        self.in_steps = have_read_in_steps(modules) if restarts else []
        self.handles = [module.register_forward_pre_hook(_begin, with_kwargs=True) for module in modules]
        self.handles += [module.register_forward_hook(_finish, with_kwargs=True) for module in modules]

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()
        for module in self.in_steps:
            restore_forward(module)

    def masks(self, attention: Tensor, mask: Tensor | None, real: RealTokens) -> Tensor | dict[str, Tensor | None]:
        """The mask that a base model takes. attention: a placeholder; mask: `[B, n]`, zero at padding."""
        if not self.modules:
            return attention
        return kind_masks(attention, None if real.columns is None else mask)

    def check_padding(self, real: RealTokens, tokens: Tensor, cache: Cache | None) -> None:
        """Raise ValueError for padding that would change a state, and mark the rows that have it behind their text.

        real: which of the new tokens, `[B, n]` or `[B, n, hidden]`, are no padding. In front of a text padding leaves
        a state at zero, unless its projection has a bias.
        """
        carrying = [layer for layer in cache.layers if isinstance(layer, RecurrentLayer)] if cache is not None else []
        ended = carrying[0].ended if carrying else frozenset()
        if not self.modules or (real.columns is None and not ended):
            return
        rows, columns = tokens.shape[:2]
        spans, begun = real.columns or [slice(0, columns)] * rows, _rows_begun(cache)
        for row, span in enumerate(spans):
            _check_row(row, span, row in begun, row in ended)
            if row not in begun and (span.start > 0 or not _reads(span)) and any(map(_adds_bias, self.modules)):
                raise ValueError(
                    f"row {row} has padding in front, and this model's recurrent layers add a bias to it: give rows of "
                    "one length, without padding"
                )
        for layer in carrying:
            layer.ended = frozenset(row for row, span in enumerate(spans) if _ends(span, columns, row in begun))


def _check_row(row: int, span: slice | Tensor, begun: bool, ended: bool) -> None:
    """Raise ValueError for text behind padding behind text. span: the row's new columns that are no padding."""
    if not isinstance(span, slice) or (_reads(span) and (ended or (begun and span.start > 0))):
        raise ValueError(
            f"row {row} has text behind padding that its recurrent states have taken up: pad in front of a text"
        )


def _reads(span: slice) -> bool:
    return span.stop > span.start


def _ends(span: slice, columns: int, begun: bool) -> bool:
    """Whether a row of so many new columns has padding behind its text. begun: whether it has text from before."""
    return span.stop < columns if _reads(span) else begun


def _rows_begun(cache: Cache | None) -> set[int]:
    """The rows of which a cache holds some text."""
    seen = [] if cache is None else next(layer for layer in cache.layers if isinstance(layer, CountedLayer)).seen
    return {row for row, tokens in enumerate(seen) if tokens}


def _adds_bias(module: nn.Module) -> bool:
    """Whether what a module makes of zeros is not zero before its state."""
    return any(name.startswith(IN_PROJECTION) and part.bias is not None for name, part in module.named_children())


def _begin(module: nn.Module, args: tuple, kwargs: dict) -> None:
    layer = _layer_of(module, kwargs)
    if layer is not None:
        layer.begin_state()


def _finish(module: nn.Module, args: tuple, kwargs: dict, output: Tensor) -> None:
    layer = _layer_of(module, kwargs)
    if layer is not None:
        layer.finish_state()


def _layer_of(module: nn.Module, inputs: dict) -> RecurrentLayer | None:
    """Raises RuntimeError where the cache is not the one that the base model was given."""
    cache = find_cache(inputs, STATE_CACHE_NAMES)
    if cache is None:
        return None
    if module.layer_idx < len(cache.layers) and isinstance(cache.layers[module.layer_idx], RecurrentLayer):
        return cache.layers[module.layer_idx]
    raise RuntimeError(f"layer {module.layer_idx} finds no state in its cache: {handed_over_otherwise(module)}")


def read_in_steps(self: nn.Module, hidden_states: Tensor, **inputs) -> Tensor:
    """The forward of a recurrent module that forgets its state when it reads several tokens: it reads them singly.

    hidden_states: `[B, n, hidden]`, in and out.
    """
    cache, forward = find_cache(inputs, STATE_CACHE_NAMES), type(self).forward
    if cache is None or hidden_states.shape[1] == 1 or not cache.has_previous_state(self.layer_idx):
        return forward(self, hidden_states, **inputs)
    mask = inputs.pop(ATTENTION_MASK, None)
    masks = [None] * hidden_states.shape[1] if mask is None else mask.split(1, dim=1)
    tokens = zip(hidden_states.split(1, dim=1), masks)
    return torch.cat([forward(self, token, **{ATTENTION_MASK: own}, **inputs) for token, own in tokens], dim=1)


def have_read_in_steps(modules: list[nn.Module]) -> list[nn.Module]:
    """Give modules that forward; returns those that did not have it."""
    changed = [module for module in modules if not _reads_in_steps(module)]
    for module in changed:
        replace_forward(module, read_in_steps)
    return changed


def _reads_in_steps(module: nn.Module) -> bool:
    forward = getattr(module, forward_name(module))
    return isinstance(forward, partial) and forward.func is read_in_steps
