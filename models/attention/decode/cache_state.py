"""A cache as named tensors, and back, for checkpoints of a stream; and branches of a cache."""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer, LinearAttentionLayer

from .counted import CountedLayer
from .recurrent import EmptyLayer, RecurrentLayer, part_states, restore_states, state_tensors

Layer = CountedLayer | RecurrentLayer | EmptyLayer | DynamicLayer | LinearAttentionLayer
DYNAMIC_TENSORS = ("keys", "values")


def cache_tensors(cache: Cache) -> dict[str, Tensor]:
    """The tensors `[B, ...]` of a LambdaCache or DynamicCache, recurrent states too, named "LAYER.NAME"."""
    return {
        f"{index}.{name}": tensor
        for index, layer in enumerate(cache.layers)
        for name, tensor in _layer_tensors(layer).items()
    }


def restore_cache(cache: Cache, tensors: dict[str, Tensor], position: int) -> None:
    """Have a cache of the same model and kind, which has read some token, hold `tensors` at `position` instead.

    They are moved to where that cache has its own. Raises KeyError where one is missing.
    """
    for index, layer in enumerate(cache.layers):
        held = {
            name: tensors[f"{index}.{name}"].to(tensor.device, tensor.dtype)
            for name, tensor in _layer_tensors(layer).items()
        }
        if isinstance(layer, CountedLayer):
            layer.restore(held, position)
        elif isinstance(layer, DynamicLayer):
            layer.keys, layer.values = held["keys"], held["values"]
        if isinstance(layer, RecurrentLayer):
            layer.restore_state(held, position)
        elif isinstance(layer, LinearAttentionLayer):
            restore_states(layer, held)


def cache_bytes(cache: Cache) -> int:
    """Bytes of keys, values and states."""
    return sum(tensor.nbytes for tensor in cache_tensors(cache).values())


def bytes_per_token(cache: Cache) -> int:
    """The bytes that a cache which has read some token grows by with each: none, unless it keeps all tokens."""
    return sum(
        tensor[:, :, :1].nbytes
        for layer in cache.layers
        for name, tensor in _layer_tensors(layer).items()
        if (name in layer.unbounded if isinstance(layer, CountedLayer) else name in DYNAMIC_TENSORS)
    )


def branch_cache(cache: Cache, room: int = 0) -> Cache:
    """A cache that goes on from where this LambdaCache or DynamicCache stands, and leaves it as it is.

    What they keep of all tokens is not copied: a branch writes behind it, where `cache` will write when it goes on. So
    be done with a branch before `cache` goes on, or another branch. room: tokens that the branch will read; one that
    reads more takes a copy after all.
    """
    branch = copy.copy(cache)
    branch.layers = [_branch_layer(layer, room) for layer in cache.layers]
    return branch


def repeat_rows(cache: Cache, padding: Sequence[int]) -> None:
    """Have a LambdaCache or DynamicCache of one row hold a copy of it for each number of `padding`.

    padding: columns in front of each row's tokens, which push as many out at the end: a mask must hide them. Only a
    DynamicCache of attention layers can lose tokens, ValueError for another.
    """
    if any(padding) and not all(type(layer) is DynamicLayer for layer in cache.layers):
        raise ValueError("a Λ-attention cache, or a recurrent state, cannot lose the last tokens of a row to padding")
    for layer in cache.layers:
        if type(layer) is DynamicLayer:
            layer.keys, layer.values = _pushed(layer.keys, padding), _pushed(layer.values, padding)
        else:
            layer.reorder_cache(torch.zeros(len(padding), dtype=torch.int64))


def _pushed(tensor: Tensor, padding: Sequence[int]) -> Tensor:
    """A tensor `[1, H, n, d]` as rows of n columns, each behind its padding of zeros."""
    if not any(padding):
        return tensor.expand(len(padding), -1, -1, -1)
    kept = [max(0, tensor.shape[-2] - columns) for columns in padding]
    return torch.cat([F.pad(tensor[:, :, :count], (0, 0, tensor.shape[-2] - count, 0)) for count in kept])


def _branch_layer(layer: Layer, room: int) -> Layer:
    """A DynamicLayer replaces its tensors when it grows, a CountedLayer writes into them; a state is overwritten."""
    branch = copy.copy(layer)
    if isinstance(layer, LinearAttentionLayer):
        part_states(branch)
    if not isinstance(layer, CountedLayer) or not layer.is_initialized:
        return branch
    if any(getattr(layer, name).shape[-2] for name in layer.unbounded):
        coming = layer.keys[:, :, :1].expand(-1, -1, room, -1)  # only its shape counts
        layer.reserve(coming, coming)
    for name, tensor in layer.tensors().items():
        setattr(branch, name, getattr(layer, name) if name in layer.unbounded else tensor.clone())
    return branch


def _layer_tensors(layer: Layer) -> dict[str, Tensor]:
    if isinstance(layer, CountedLayer):
        held = layer.tensors()
    else:
        held = {name: getattr(layer, name, None) for name in DYNAMIC_TENSORS}
    return {name: tensor for name, tensor in {**held, **state_tensors(layer)}.items() if tensor is not None}
