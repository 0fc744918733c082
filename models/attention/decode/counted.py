"""A layer's cache as far as every kind of it counts alike: real tokens of each row, and columns with their padding."""

from typing import ClassVar

import torch
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin

from ..config import Method
from .step import DecodeStep

SMALLEST_CAPACITY = 64


class CountedLayer(CacheLayerMixin):
    """One layer's keys and values.

    names: of its tensors, `[B, Hkv, C, .]`. unbounded: of those of them that grow with the stream.
    seen: real tokens so far, per row; a row counts from its own first real token. columns: tokens so far, padding
    included.
    due: columns that the forward under way is to end with; stepped: whether a static step has been attended in it.
    step: what a static decoding step has made of positions that only the device knows (`models/decode_graph.py`); the
        numbers above stand still while it runs. None at any other time.
    lacks_window: whether the window is on another rank of a sequence group, and this cache is not to be read.
    """

    names: ClassVar[tuple[str, ...]] = ("keys", "values")
    unbounded: ClassVar[tuple[str, ...]] = ()
    supports_early_init = False
    is_croppable = True  # `crop` says where it no longer is

    def __init__(self, config: Method, layer_idx: int = 0) -> None:
        super().__init__()
        self.config, self.layer_idx = config, layer_idx
        self.reset()

    def reset(self) -> None:
        for name in self.names:
            setattr(self, name, None)
        self.seen: list[int] = []
        self.columns = self.due = 0
        self.step: DecodeStep | None = None
        self.stepped = self.lacks_window = False
        self.is_initialized = False

    def make_room(self, needed: int) -> None:
        """For a text of `needed` tokens."""
        raise NotImplementedError

    @property
    def position(self) -> int:
        """The position of the next token, where all rows agree."""
        if not self.aligned:
            raise ValueError("the rows of this cache stand at different positions; attend them one by one")
        return self.seen[0] if self.seen else 0

    @property
    def aligned(self) -> bool:
        return len(set(self.seen)) <= 1

    def reserve(self, key: Tensor, value: Tensor) -> None:
        """Make room for the n new tokens of key and value `[B, Hkv, n, d]`, in every row."""
        if not self.is_initialized:
            self.lazy_initialization(key, value)
        if key.shape[0] != len(self.seen):  # one row would silently be written to all
            raise ValueError(f"this cache holds {len(self.seen)} rows, but the batch has {key.shape[0]}")
        if key.dtype != self.keys.dtype:
            raise ValueError(
                f"this cache holds {self.keys.dtype} and the new tokens come in {key.dtype}: begin and end autocast "
                "between texts, or make a new cache"
            )
        self.make_room(max(self.seen) + key.shape[-2])

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

    def row(self, index: int) -> "CountedLayer":
        """One row as a cache of its own that shares this one's memory. `reserve` first; `seen` is its own."""
        view = type(self)(self.config, self.layer_idx)
        for name in self.names:
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

    def check_crop(self) -> None:
        """Raise NotImplementedError where what cropping would bring back is no longer there."""

    def crop(self, tokens_to_remove: int) -> None:
        """Take `-tokens_to_remove` of the newest columns back, or all beyond a positive number, where that is exact."""
        tokens_to_remove = int(tokens_to_remove)  # a tensor in some releases
        surplus = -tokens_to_remove if tokens_to_remove <= 0 else max(0, self.columns - tokens_to_remove)
        if not surplus:
            return
        self.check_crop()
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
        with torch.inference_mode(False):  # as in `grown`
            for name in self.names:
                setattr(self, name, select(getattr(self, name)))
        self.seen = self.seen[:1] * len(rows) if self.aligned else [self.seen[row] for row in rows.tolist()]

    def tensors(self) -> dict[str, Tensor]:
        """The stored tensors by name, `[B, ...]`; none before the first token."""
        return {name: getattr(self, name) for name in self.names} if self.is_initialized else {}

    def restore(self, tensors: dict[str, Tensor], position: int) -> None:
        """Hold what `tensors` gave when every row had read `position` tokens, none of them padding."""
        for name in self.names:
            setattr(self, name, tensors[name])
        self.seen, self.columns, self.is_initialized = [position] * len(self.keys), position, True
        self.lacks_window = False

    def nbytes(self) -> int:
        """Bytes of the stored tensors."""
        return sum(tensor.nbytes for tensor in self.tensors().values())


def grown(tensor: Tensor, needed: int, limit: int | None = None) -> Tensor:
    """The tensor `[B, H, C, d]` with room for `needed` columns, at most `limit`; zeros where nothing was written."""
    capacity = tensor.shape[-2]
    if capacity >= needed or capacity == limit:
        return tensor
    capacity = max(needed, 2 * capacity, SMALLEST_CAPACITY)
    capacity = capacity if limit is None else min(capacity, limit)
    with torch.inference_mode(False):  # so that a stream begun in inference mode may go on outside of it
        larger = tensor.new_zeros(*tensor.shape[:2], capacity, tensor.shape[-1])
    larger[:, :, : tensor.shape[-2]] = tensor
    return larger
