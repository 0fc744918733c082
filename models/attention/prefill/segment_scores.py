"""The tensors that a segment's blocks share, per key head and in the dtype of scores.

Scores are in bits, `log2(e)` times the scaled products, so that a weight is `2^score`. Query heads that share a key
head are folded into rows, so that grouped-query keys are never copied.
"""

import math
import threading
from functools import cached_property
from typing import NamedTuple

import torch
from einops import rearrange, repeat
from torch import Tensor

from ..config import AttentionLayer
from ..sinks import score_sinks
from .segment import Segment, distances

BITS_PER_NAT = math.log2(math.e)


class WindowScores(NamedTuple):
    """Scores of a block's window, `[heads, rows, columns]`, and of its first and its last `size` columns.

    oldest, newest: `[heads * g, size, size]`, in the same memory; with more dimensions `tril_` would make a copy.
    """

    all: Tensor
    oldest: Tensor
    newest: Tensor


class ScoreMemory(threading.local):
    """Memory of scores to be written over, each thread's own, and views of it by shape.

    The same at each call: fresh memory can cost as much as the product.
    """

    def __init__(self) -> None:
        self._storage: Tensor | None = None
        self._views: dict[tuple[int, ...], WindowScores] = {}

    def window(self, like: Tensor, heads: int, group: int, size: int, columns: int) -> WindowScores:
        """Of the dtype and device of a tensor, which are the same at all calls."""
        shape = heads, group, size, columns
        if shape not in self._views:
            self._views[shape] = self._new_views(like, *shape)
        return self._views[shape]

    def _new_views(self, like: Tensor, heads: int, group: int, size: int, columns: int) -> WindowScores:
        numel = heads * group * size * columns
        if self._storage is None or self._storage.numel() < numel:
            self._storage, self._views = like.new_empty(numel), {}
        scores = self._storage[:numel].view(heads, -1, columns)
        by_query_head = scores.view(-1, size, columns)
        return WindowScores(scores, by_query_head[..., :size], by_query_head[..., -size:])


class SegmentScores:
    """A segment's queries, encoded and scaled, `[heads, g, m, d]`, its keys `[heads, ., d]` and values
    `[heads, ., d_v]`, and the scores of the first tokens.

    heads: key heads of all rows, `B * Hkv`. group: query heads g of each. dtype: that of queries and scores; keys and
    values are left in theirs, for converting them takes memory.
    """

    def __init__(self, segment: Segment, layer: AttentionLayer, memory: ScoreMemory, by_onednn: bool = False) -> None:
        """by_onednn: whether large products are oneDNN's, else those of `mm`."""
        self.segment, self.layer, self.by_onednn = segment, layer, by_onednn
        self.dtype = score_dtype(layer, segment.query.dtype)
        self.heads = segment.window_key.shape[:2].numel()
        self.group = segment.query.shape[1] // segment.window_key.shape[1]
        self.keys, self.values = _by_key_head(segment.window_key), _by_key_head(segment.window_value)
        self._query = segment.query.to(self.dtype)
        self.scale = layer.scale * BITS_PER_NAT
        self.soft_cap = None if layer.soft_cap is None else layer.soft_cap * BITS_PER_NAT
        self._memory = memory

    def window_memory(self, size: int, columns: int) -> WindowScores:
        """Memory for the scores of so many queries of each head, to be written over."""
        return self._memory.window(self._query, self.heads, self.group, size, columns)

    @cached_property
    def raw_keys(self) -> Tensor:
        """The window's, not encoded: where the limit falls inside the window."""
        return _by_key_head(self.segment.window_raw)

    @cached_property
    def near(self) -> Tensor:
        """The queries as keys at their true distance feel them."""
        return self._fold(self.layer.positions.at(self._query, self.segment.start, scale=self.scale))

    @cached_property
    def far(self) -> Tensor:
        """The queries as keys at the limit feel them."""
        limit = self.layer.config.limit_distance
        return self._fold(self.layer.positions.at_distance(self._query, limit, self.scale))

    @cached_property
    def slopes(self) -> Tensor | None:
        """ALiBi's slopes per query head, in bits, `[heads, g, 1, 1]`."""
        if self.layer.positions.slopes is None:
            return None
        slopes = self.layer.positions.slopes_on(self.segment.query.device) * BITS_PER_NAT
        return repeat(slopes, "(h g) -> (b h) g 1 1", g=self.group, b=self.segment.query.shape[0])

    @cached_property
    def sink_logit(self) -> Tensor | None:
        """The learned score of each query head, in bits and at least in float32, `[heads, g, 1, 1]`."""
        if self.layer.sink_logit is None:
            return None
        logit = self.layer.sink_logit.to(torch.promote_types(self.dtype, torch.float32)) * BITS_PER_NAT
        return repeat(logit, "(h g) -> (b h) g 1 1", g=self.group, b=self.segment.query.shape[0])

    def cap(self, scores: Tensor) -> None:
        """Cap scores softly, in their memory, where the layer does."""
        if self.soft_cap is not None:
            scores.div_(self.soft_cap).tanh_().mul_(self.soft_cap)

    @cached_property
    def sinks(self) -> int:
        """The number of first tokens that lie before the window of the last query."""
        config, last_position = self.layer.config, self.segment.start + self.segment.query.shape[-2] - 1
        reached = max(0, last_position - config.local_branch + 1)
        return min(config.global_branch, self.segment.sink_key.shape[-2], reached)

    @cached_property
    def sink_values(self) -> Tensor:
        return _by_key_head(self.segment.sink_value[:, :, : self.sinks]).to(self.dtype)

    @cached_property
    def sink_scores(self) -> Tensor:
        return self.score_sinks()

    def score_sinks(self) -> Tensor:
        """Scores of the first tokens, `[heads, g, m, sinks]`, to be written over; -inf where a window holds them."""
        key = _by_key_head(self.segment.sink_key[:, :, : self.sinks]).to(self.dtype)
        count = self.segment.query.shape[-2]
        distance = distances(count, self.sinks, self.segment.start, key.device)
        beyond_window = self.segment.start - self.sinks + 1 >= self.layer.config.local_branch
        scores = score_sinks(self.layer, self, key, distance, self.slopes, beyond_window, self.soft_cap)
        return rearrange(scores, "heads (g m) sinks -> heads g m sinks", m=count)

    def felt(self) -> Tensor:
        """The queries as the first tokens feel them before any limit, as `SinkQueries` has it, and scaled."""
        latest = self.layer.config.latest_position
        if latest is None:
            return _by_row(self.near)
        return _by_row(self._fold(self.layer.positions.at(self._query, self.segment.start, latest, self.scale)))

    def key_in_place(self, key: Tensor) -> Tensor:
        return self.layer.positions.at(key, 0)

    def projected(self) -> Tensor:
        """The queries without positions."""
        return _by_row(self._fold(self._query))

    def key_at_limit(self, key: Tensor) -> Tensor:
        return self.layer.positions.at_distance(key, -self.layer.config.limit_distance, self.scale)

    def product(self, query: Tensor, key: Tensor) -> Tensor:
        return query @ key.mT

    def _fold(self, queries: Tensor) -> Tensor:
        """Queries with the heads that share a key head side by side, `[heads, g, m, d]`."""
        return rearrange(queries, "b (h g) m d -> (b h) g m d", g=self.group)


def score_dtype(layer: AttentionLayer, dtype: torch.dtype) -> torch.dtype:
    """The dtype of scores of queries of a dtype.

    A bias of thousands needs float32 scores: bfloat16 would round it by whole units. float16 overflows.
    """
    wide = layer.positions.slopes is not None or dtype == torch.float16
    return torch.float32 if wide else dtype


def _by_key_head(x: Tensor) -> Tensor:
    return rearrange(x, "b h n d -> (b h) n d")


def _by_row(queries: Tensor) -> Tensor:
    return rearrange(queries, "heads g m d -> heads (g m) d")
