"""The scores of a block of queries: of the window and of the first tokens."""

from functools import cached_property, lru_cache

import torch
from einops import rearrange
from torch import Tensor

from .matrix_products import multiply
from .segment import distances
from .segment_scores import SegmentScores, WindowScores
from .window_weights import weigh_window


class Block:
    """Queries first .. last - 1 of a segment, which columns they reach, and their scores.

    Rows are the queries of all heads that share a key head.
    """

    def __init__(self, shared: SegmentScores, first: int, last: int) -> None:
        self.shared, self.layer = shared, shared.layer
        config, segment = self.layer.config, shared.segment
        self.first, self.last, self.size = first, last, last - first
        self.position = segment.start + first
        last_position = segment.start + last - 1
        self.window_first = max(0, self.position - config.local_branch + 1)
        self.window_size = last_position + 1 - self.window_first
        first_column = self.window_first - segment.window_start
        self._window_columns = slice(first_column, first_column + self.window_size)

    def rows_of(self, tensor: Tensor) -> Tensor:
        """The block's rows of a tensor `[heads, g, m, .]`, `[heads, rows, .]`."""
        return rearrange(tensor[:, :, self.first : self.last], "heads g m x -> heads (g m) x")

    def scores(self, whole: bool = False) -> list[Tensor]:
        """`[heads, rows, columns]` of each kind of columns: the window alone, or where whole, the first tokens too.

        To be written over. What is outside of a window is -inf where whole, and else left to `weigh_window`.
        """
        kinds = [self._window_scores()]
        if whole:
            self._bar_outside()
        if whole and self.shared.sinks:
            kinds.append(self.rows_of(self.shared.sink_scores).clone())
        return kinds

    def weigh_window(self) -> Tensor:
        """Turn the window's scores into weights, 0 outside of a query's window; their sums, `[heads, rows, 1]`."""
        return weigh_window(self._memory, self.position - self.window_first - self.layer.config.local_branch + 1)

    def _bar_outside(self) -> None:
        """Set scores to -inf outside of a query's window."""
        window = self._memory
        window.newest.add_(self._barrier(0))
        if self.window_size > self.layer.config.local_branch:
            window.oldest.add_(self._barrier(self.position - self.window_first))

    def values(self, whole: bool = False) -> list[Tensor]:
        """`[heads, columns, d_v]` per kind of columns that `scores` has."""
        kinds = [self.shared.values[:, self._window_columns]]
        if whole and self.shared.sinks:
            kinds.append(self.shared.sink_values)
        return [values.to(self.shared.dtype) for values in kinds]

    def sink_logit(self) -> Tensor:
        """The learned scores of the heads' rows, in bits, `[heads, rows, 1]`."""
        return self.shared.sink_logit.expand(-1, -1, self.size, -1).flatten(1, 2)

    @cached_property
    def _memory(self) -> WindowScores:
        return self.shared.window_memory(self.size, self.window_size)

    def _window_scores(self) -> Tensor:
        config, window = self.layer.config, self._memory
        keys = self.shared.keys[:, self._window_columns].mT.to(self.shared.dtype)
        multiply(self.rows_of(self.shared.near), keys, window.all, self.shared.by_onednn)
        if config.caps_window and self.shared.slopes is None:
            self._cap(self._by_query_head(window.all))
        self.shared.cap(window.all)
        if self.shared.slopes is not None:  # else no distances as wide as the window are needed
            self._add_bias(self._by_query_head(window.all), self._distances(self.window_first, self.window_size))
        return window.all

    def _cap(self, window: Tensor) -> None:
        """Score the keys within the window `[heads, g, size, k]` that are beyond the limit as if they were at it."""
        limit = self.layer.config.limit_distance
        capped = self.window_size - limit
        if capped <= 0:
            return
        keys = self.shared.raw_keys[:, self._window_columns][:, :capped]
        beyond = self._far_scores(keys)
        is_beyond = self._distances(self.window_first, capped) >= limit
        window[..., :capped] = torch.where(is_beyond, beyond, window[..., :capped])

    def _far_scores(self, keys: Tensor) -> Tensor:
        """Scores `[heads, g, size, k]` of keys `[heads, k, d]`, all at the limit."""
        rows, keys = self.rows_of(self.shared.far), keys.mT.to(self.shared.dtype)
        scores = rows.new_empty(*rows.shape[:2], keys.shape[-1])
        multiply(rows, keys, scores)
        return self._by_query_head(scores)

    def _by_query_head(self, scores: Tensor) -> Tensor:
        """`[heads, rows, k]` as `[heads, g, size, k]`."""
        return scores.unflatten(1, (-1, self.size))

    def _add_bias(self, scores: Tensor, distance: Tensor) -> None:
        """ALiBi: take `slope * min(distance, D)` off scores `[heads, g, size, k]`, per query head."""
        felt = self.layer.config.capped(distance).to(scores.dtype)
        scores.addcmul_(self.shared.slopes, felt, value=-1)

    def _distances(self, first_key: int, count: int) -> Tensor:
        """int64 `[size, count]`: distances of the block's queries to the keys at first_key, first_key + 1, ..."""
        return distances(self.size, count, self.position - first_key, self.shared.keys.device)

    def _barrier(self, offset: int) -> Tensor:
        return _barrier(offset, self.size, self.layer.config.local_branch, self.shared.dtype, self.shared.keys.device)


@lru_cache(maxsize=8)
def _barrier(offset: int, size: int, local_branch: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """-inf where a distance is not within the window, else 0, `[size, size]`: the same in block after block."""
    distance = distances(size, size, offset, device)
    closed = (distance < 0) | (distance >= local_branch)
    return torch.zeros(size, size, dtype=dtype, device=device).masked_fill_(closed, float("-inf"))
