"""The cache of Λ-attention: G + L entries per layer and head, however long the stream."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from ..bands.cache import FullLayer
from ..config import LambdaConfig, Method
from .counted import CountedLayer, grown

BOUNDED_TENSORS = ("keys", "values", "sink_keys", "sink_values")
"""The tensors of a layer that grow no further than their branches."""
HISTORY = ("history_keys", "history_values")


class LambdaLayer(CountedLayer):
    """One layer's keys and values.

    keys, values: `[B, Hkv, C, d]`, C <= L: a ring, the token at position p in slot p % L. Keys are encoded at their
        positions, or as projected where the limit falls inside the window.
    sink_keys, sink_values: `[B, Hkv, min(G, C), d]`, the first tokens, keys as projected.
    history_keys, history_values: with top-k those of all tokens as well, keys as projected; they grow with the stream,
        in host memory where the configuration says so.
    """

    names = (*BOUNDED_TENSORS, *HISTORY)
    unbounded = HISTORY

    def __init__(self, config: LambdaConfig, layer_idx: int = 0) -> None:
        super().__init__(config, layer_idx)
        self.keeps_history = config.selects_top_k(layer_idx)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys, self.values = key_states[:, :, :0].clone(), value_states[:, :, :0].clone()
        self.sink_keys, self.sink_values = self.keys.clone(), self.values.clone()
        device = "cpu" if self.config.offloads else self.keys.device
        self.history_keys, self.history_values = (x.to(device, copy=True) for x in (self.keys, self.values))
        self.seen = [0] * key_states.shape[0]
        self.is_initialized = True

    @property
    def filled(self) -> int:
        """Slots of the ring that hold a token of at least one row."""
        return min(max(self.seen, default=0), self.config.local_branch)

    def window(self) -> tuple[Tensor, Tensor]:
        """Keys, as stored, and values of the last L - 1 tokens, oldest first, `[B, Hkv, <= L - 1, d]`."""
        count = min(self.position, self.config.local_branch - 1)
        return self._oldest_first(self.keys, count), self._oldest_first(self.values, count)

    def _oldest_first(self, ring: Tensor, count: int) -> Tensor:
        first = (self.position - count) % self.config.local_branch
        until_wrap = min(count, self.config.local_branch - first)
        if until_wrap == count:
            return ring[:, :, first : first + count]
        return torch.cat([ring[:, :, first:], ring[:, :, : count - until_wrap]], -2)

    def make_room(self, needed: int) -> None:
        """For a text of `needed` tokens: what is bounded grows no further than its branch."""
        limit = self.config.local_branch
        self.keys, self.values = grown(self.keys, needed, limit), grown(self.values, needed, limit)
        limit = self.config.global_branch
        self.sink_keys, self.sink_values = (grown(x, needed, limit) for x in (self.sink_keys, self.sink_values))
        if self.keeps_history:
            self.history_keys = grown(self.history_keys, needed)
            self.history_values = grown(self.history_values, needed)

    def begin(self, key: Tensor, value: Tensor) -> None:
        """Store the first tokens, and the history where it is kept, before n new tokens are attended.

        key, value: `[B, Hkv, n, d]` as projected.
        """
        self.reserve(key, value)
        if min(self.seen) >= self.config.global_branch and not self.keeps_history:
            return
        for part, position in self._parts():
            new_key, new_value = key[part], value[part]
            count = min(self.config.global_branch - position, key.shape[-2])
            if count > 0:
                self.sink_keys[part, :, position : position + count] = new_key[:, :, :count]
                self.sink_values[part, :, position : position + count] = new_value[:, :, :count]
            if self.keeps_history:
                self.history_keys[part, :, position : position + key.shape[-2]] = new_key
                self.history_values[part, :, position : position + key.shape[-2]] = new_value

    def finish(self, stored_key: Tensor, value: Tensor, new_tokens: int) -> None:
        """After they are attended: write the last min(n, L) of them into the ring and count all n.

        stored_key, value: `[B, Hkv, min(n, L), d]`, keys in the form that the ring holds.
        """
        count = stored_key.shape[-2]
        for part, position in self._parts():
            first = (position + new_tokens - count) % self.config.local_branch
            until_wrap = min(count, self.config.local_branch - first)
            for ring, new in ((self.keys, stored_key[part]), (self.values, value[part])):
                ring[part, :, first : first + until_wrap] = new[:, :, :until_wrap]
                ring[part, :, : count - until_wrap] = new[:, :, until_wrap:]
        self.count(new_tokens)

    def write(self, stored_key: Tensor, value: Tensor, slot: Tensor) -> None:
        """Put one token per row, `[B, Hkv, 1, d]`, into slots `[B or 1]` of the ring, int64 on the device."""
        for ring, new in ((self.keys, stored_key), (self.values, value)):
            if slot.numel() == 1:
                ring.index_copy_(2, slot, new)
            else:
                ring[torch.arange(slot.numel(), device=slot.device), :, slot] = new[:, :, 0]

    def check_crop(self) -> None:
        newest, window = max(self.seen, default=0), self.config.local_branch
        if self.step is not None or newest > window:
            raise NotImplementedError(
                f"a Λ-attention cache that has read {newest} tokens, more than the {window} of its window, has "
                "overwritten what cropping would bring back: assisted and prompt-lookup decoding end there"
            )

    def move(self, memory: Sequence[Tensor]) -> None:
        """Hold BOUNDED_TENSORS in `memory` from now on, tensors of the same rows and heads with as much room."""
        for name, place in zip(BOUNDED_TENSORS, memory, strict=True):
            tensor = getattr(self, name)
            place[:, :, : tensor.shape[-2]] = tensor
            place[:, :, tensor.shape[-2] :] = 0  # as `grown` has it
            setattr(self, name, place)


class LambdaCache(Cache):
    """A Transformers `Cache` of `LambdaLayer`s, or of `FullLayer`s where all tokens are attended: what a converted
    model makes for itself, in `generate` too.

    A model whose layers differ makes them its own when it reads its first token into the cache.
    """

    def __init__(self, config: Method, num_layers: int) -> None:
        super().__init__(layers=[new_layer(config, layer_idx) for layer_idx in range(num_layers)])

    @classmethod
    def of_layers(cls, config: Method, layers: Sequence) -> "LambdaCache":
        """A cache of these layers."""
        cache = cls(config, 0)
        cache.layers = list(layers)
        return cache

    def nbytes(self) -> int:
        return sum(layer.nbytes() for layer in self.layers)


def new_layer(config: Method, layer_idx: int = 0) -> CountedLayer:
    """The empty cache of a layer that attends so."""
    return FullLayer(config, layer_idx) if config.attends_all else LambdaLayer(config, layer_idx)
