"""The cache of Λ-attention: G + L entries per layer and head, however long the stream."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from ..config import LambdaConfig
from .step import DecodeStep

SMALLEST_CAPACITY = 64


class LambdaLayer(CacheLayerMixin):
    """One layer's keys and values.

    keys, values: `[B, Hkv, C, d]`, C <= L: a ring, the token at position p in slot p % L. Keys are encoded at their
        positions, or as projected where the limit falls inside the window.
    sink_keys, sink_values: `[B, Hkv, min(G, C), d]`, the first tokens, keys as projected.
    seen: real tokens so far, per row; a row counts from its own first real token. columns: tokens so far, padding
    included.
    due: columns that the forward under way is to end with; stepped: whether a static step has been attended in it.
    step: what a static decoding step has made of positions that only the device knows (`models/decode_graph.py`); the
        numbers above stand still while it runs. None at any other time.
    lacks_window: whether the window is on another rank of a sequence group, and this ring is not to be read.
    history_keys, history_values: with triangle_offset or top-k those of all tokens as well, keys as projected; they
        grow with the stream, in host memory where the configuration says so.
    """

    supports_early_init = False
    is_croppable = True  # `crop` says where it no longer is

    def __init__(self, config: LambdaConfig, layer_idx: int = 0) -> None:
        super().__init__()
        self.config, self.layer_idx = config, layer_idx
        self.keeps_history = config.keeps_middle(layer_idx)
        self.reset()

    def reset(self) -> None:
        self.keys = self.values = self.sink_keys = self.sink_values = None
        self.history_keys = self.history_values = None
        self.seen: list[int] = []
        self.columns = self.due = 0
        self.step: DecodeStep | None = None
        self.stepped = self.lacks_window = False
        self.is_initialized = False

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys, self.values = key_states[:, :, :0].clone(), value_states[:, :, :0].clone()
        self.sink_keys, self.sink_values = self.keys.clone(), self.values.clone()
        device = "cpu" if self.config.offloads else self.keys.device
        self.history_keys, self.history_values = (x.to(device, copy=True) for x in (self.keys, self.values))
        self.seen = [0] * key_states.shape[0]
        self.is_initialized = True

    @property
    def position(self) -> int:
        """The position of the next token, where all rows agree."""
        if not self.aligned:
            raise ValueError("the rows of this cache stand at different positions; attend them one by one")
        return self.seen[0] if self.seen else 0

    @property
    def aligned(self) -> bool:
        return len(set(self.seen)) <= 1

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

    def reserve(self, key: Tensor, value: Tensor) -> None:
        """Make room for the n new tokens of key and value `[B, Hkv, n, d]`, in every row."""
        if not self.is_initialized:
            self.lazy_initialization(key, value)
        if key.shape[0] != len(self.seen):  # one row would silently be written to all
            raise ValueError(f"this cache holds {len(self.seen)} rows, but the batch has {key.shape[0]}")
        self.make_room(max(self.seen) + key.shape[-2])

    def make_room(self, needed: int) -> None:
        """For a text of `needed` tokens: what is bounded grows no further than its branch."""
        limit = self.config.local_branch
        self.keys, self.values = _grown(self.keys, needed, limit), _grown(self.values, needed, limit)
        limit = self.config.global_branch
        self.sink_keys, self.sink_values = (_grown(x, needed, limit) for x in (self.sink_keys, self.sink_values))
        if self.keeps_history:
            self.history_keys = _grown(self.history_keys, needed)
            self.history_values = _grown(self.history_values, needed)

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

    def expect(self, new_tokens: int) -> None:
        """Prepare for a forward over so many columns. A static step reads no number that a step changes."""
        if self.step is None:
            self.due = self.columns + new_tokens
        else:
            self.stepped = False

    def counts(self) -> set[int]:
        """How many columns each thing that it keeps has read: one number, unless a forward was interrupted."""
        return {self.columns}

    @property
    def arrived(self) -> bool:
        """Whether the tokens of that forward have been read."""
        return self.columns == self.due if self.step is None else self.stepped

    def count(self, new_tokens: int) -> None:
        """Count so many more tokens, none of them padding, as read in every row."""
        self.seen = [position + new_tokens for position in self.seen]
        self.columns += new_tokens

    def _parts(self) -> list[tuple[slice, int]]:
        """Rows to write at once, and the position that they stand at."""
        if self.aligned:
            return [(slice(None), self.position)]
        return [(slice(row, row + 1), position) for row, position in enumerate(self.seen)]

    def row(self, index: int) -> "LambdaLayer":
        """One row as a cache of its own that shares this one's memory. `reserve` first; `seen` is its own."""
        view = LambdaLayer(self.config, self.layer_idx)
        for name in _TENSORS:
            setattr(view, name, getattr(self, name)[index : index + 1])
        view.seen, view.is_initialized = [self.seen[index]], True
        return view

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        raise NotImplementedError("Λ-attention fills its cache itself: the model that uses this cache is not converted")

    def get_seq_length(self) -> int:
        return 0 if self.step is not None else self.columns

    def get_max_length(self) -> int:
        return -1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.columns + query_length, 0

    def crop(self, tokens_to_remove: int) -> None:
        """Take `-tokens_to_remove` of the newest columns back, or all beyond a positive number, where that is exact."""
        tokens_to_remove = int(tokens_to_remove)  # a tensor in some releases
        surplus = -tokens_to_remove if tokens_to_remove <= 0 else max(0, self.columns - tokens_to_remove)
        if not surplus:
            return
        newest, window = max(self.seen, default=0), self.config.local_branch
        if self.step is not None or newest > window:
            raise NotImplementedError(
                f"a Λ-attention cache that has read {newest} tokens, more than the {window} of its window, has "
                "overwritten what cropping would bring back: assisted and prompt-lookup decoding end there"
            )
        if surplus > min(self.seen, default=0):
            raise ValueError(f"this cache has a row of {min(self.seen, default=0)} tokens, not {surplus} to remove")
        self.seen = [position - surplus for position in self.seen]
        self.columns -= surplus

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self._select(lambda tensor: tensor.index_select(0, beam_idx.to(tensor.device)), beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        self._select(lambda tensor: tensor[indices.to(tensor.device)], torch.arange(len(self.seen))[indices.cpu()])

    def batch_repeat_interleave(self, repeats: int) -> None:
        rows = torch.arange(len(self.seen)).repeat_interleave(repeats)
        self._select(lambda tensor: tensor.repeat_interleave(repeats, dim=0), rows)

    def _select(self, select, rows: Tensor) -> None:
        if not self.is_initialized:
            return
        with torch.inference_mode(False):  # as in _grown
            for name in _TENSORS:
                setattr(self, name, select(getattr(self, name)))
        self.seen = self.seen[:1] * len(rows) if self.aligned else [self.seen[row] for row in rows.tolist()]

    def tensors(self) -> dict[str, Tensor]:
        """The stored tensors by name, `[B, ...]`; none before the first token."""
        return {name: getattr(self, name) for name in _TENSORS} if self.is_initialized else {}

    def restore(self, tensors: dict[str, Tensor], position: int) -> None:
        """Hold what `tensors` gave when every row had read `position` tokens, none of them padding."""
        for name in _TENSORS:
            setattr(self, name, tensors[name])
        self.seen, self.columns, self.is_initialized = [position] * len(self.keys), position, True
        self.lacks_window = False

    def move(self, memory: Sequence[Tensor]) -> None:
        """Hold BOUNDED_TENSORS in `memory` from now on, tensors of the same rows and heads with as much room."""
        for name, place in zip(BOUNDED_TENSORS, memory, strict=True):
            tensor = getattr(self, name)
            place[:, :, : tensor.shape[-2]] = tensor
            place[:, :, tensor.shape[-2] :] = 0  # as _grown has it
            setattr(self, name, place)

    def nbytes(self) -> int:
        """Bytes of the stored tensors."""
        return sum(tensor.nbytes for tensor in self.tensors().values())


BOUNDED_TENSORS = ("keys", "values", "sink_keys", "sink_values")
"""The tensors of a layer that grow no further than their branches."""
_TENSORS = (*BOUNDED_TENSORS, "history_keys", "history_values")


def _grown(tensor: Tensor, needed: int, limit: int | None = None) -> Tensor:
    """The tensor `[B, H, C, d]` with room for `needed` columns, at most `limit`; zeros where nothing was written."""
    capacity = tensor.shape[-2]
    if capacity >= needed or capacity == limit:
        return tensor
    capacity = max(needed, 2 * capacity, SMALLEST_CAPACITY)
    capacity = capacity if limit is None else min(capacity, limit)
    with torch.inference_mode(False):  # so that a stream begun in inference mode may go on outside of it
        grown = tensor.new_zeros(*tensor.shape[:2], capacity, tensor.shape[-1])
    grown[:, :, : tensor.shape[-2]] = tensor
    return grown


class LambdaCache(Cache):
    """A Transformers `Cache` of `LambdaLayer`s: what a converted model makes for itself, in `generate` too.

    A model whose layers differ makes them its own when it reads its first token into the cache.
    """

    def __init__(self, config: LambdaConfig, num_layers: int) -> None:
        super().__init__(layers=[LambdaLayer(config, layer_idx) for layer_idx in range(num_layers)])

    @classmethod
    def of_layers(cls, config: LambdaConfig, layers: Sequence) -> "LambdaCache":
        """A cache of these layers."""
        cache = cls(config, 0)
        cache.layers = list(layers)
        return cache

    def nbytes(self) -> int:
        return sum(layer.nbytes() for layer in self.layers)
