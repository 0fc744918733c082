"""The scores of a block of queries, in bits: `log2(e)` times the scaled products, so that a weight is `2^score`.

Their columns come in groups: the window, the first tokens and, where a configuration attends to it, the middle. Query
heads that share a key head are folded into rows, so that grouped-query keys are never copied.
"""

import math
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from models.lambda_config import AttentionLayer
from models.products import multiply
from models.segment import Segment
from models.sinks import score_sinks

BITS_PER_NAT = math.log2(math.e)


class BlockQueries:
    """A segment's queries, `[B, Hq, m, d]` and scaled, in the dtype of scores, in every form that keys feel them in."""

    def __init__(self, segment: Segment, layer: AttentionLayer) -> None:
        self.segment, self.layer = segment, layer
        # A bias of thousands needs float32 scores: bfloat16 would round it by whole units. float16 overflows.
        wide = layer.positions.slopes is not None or segment.query.dtype == torch.float16
        self.dtype = torch.float32 if wide else segment.query.dtype
        self._storage = segment.query.new_empty(0, dtype=self.dtype)

    def window_scores(self, *shape: int) -> Tensor:
        """Memory for scores, the same at each call: fresh one costs the processor as much as the product does."""
        size = math.prod(shape)
        if self._storage.numel() < size:
            self._storage = self._storage.new_empty(size)
        return self._storage[:size].view(shape)

    @cached_property
    def raw(self) -> Tensor:
        scaled = self.segment.query.new_empty(self.segment.query.shape, dtype=self.dtype)
        return torch.mul(self.segment.query, self.layer.scale * BITS_PER_NAT, out=scaled)

    @cached_property
    def near(self) -> Tensor:
        """As keys at their true distance feel them."""
        return self.layer.positions.at(self.raw, self.segment.start)

    @cached_property
    def far(self) -> Tensor:
        """As keys at the limit feel them."""
        limit = self.layer.config.limit_distance
        return self.near if limit is None else self.layer.positions.at_distance(self.raw, limit)

    @cached_property
    def for_sinks(self) -> Tensor:
        """As the first tokens feel them before any limit."""
        latest = self.layer.config.latest_position
        return self.near if latest is None else self.layer.positions.at(self.raw, self.segment.start, latest)

    @cached_property
    def sink_key(self) -> Tensor:
        return self.segment.sink_key.to(self.dtype)

    @cached_property
    def capped_sink_key(self) -> Tensor:
        """`R_-D k`, for `(R_D q)·k = q·(R_-D k)`: there are fewer first tokens than queries."""
        return self.layer.positions.at_distance(self.sink_key, -self.layer.config.limit_distance)


class Block:
    """Queries first .. last - 1 of a segment, which columns they reach, and their scores.

    A part is a slice of the B * Hkv key heads; `rows` are the queries of all heads that share one.
    """

    def __init__(self, queries: BlockQueries, first: int, last: int) -> None:
        self.queries, self.segment, self.layer = queries, queries.segment, queries.layer
        config, segment = self.layer.config, self.segment
        self.first, self.last, self.size = first, last, last - first
        self.rows = self.size * (segment.query.shape[1] // segment.window_key.shape[1])
        self.position = segment.start + first
        last_position = segment.start + last - 1
        self.window_first = max(0, self.position - config.local_branch + 1)
        self.window = last_position + 1 - self.window_first
        reached = max(0, last_position - config.local_branch + 1)
        self.sinks = min(config.global_branch, segment.sink_key.shape[-2], reached)
        self.middle = max(0, reached - config.global_branch) if config.triangle_offset else 0
        self.columns = self.window + self.sinks + self.middle
        first_column = self.window_first - segment.window_start
        self._window = slice(first_column, first_column + self.window)
        self._middle = slice(config.global_branch, config.global_branch + self.middle)

    def scores(self, part: slice) -> list[Tensor]:
        """`[heads of part, rows, columns]` per group of columns, to be written over; -inf is what is not attended."""
        groups = [self._window_scores(part)]
        if self.sinks:
            groups.append(self._sink_scores[part].clone())
        if self.middle:
            groups.append(self._middle_scores(part))
        return groups

    def values(self, part: slice) -> list[Tensor]:
        """`[heads of part, columns, d_v]` per group of columns."""
        segment = self.segment
        groups = [segment.window_value[:, :, self._window]]
        if self.sinks:
            groups.append(segment.sink_value[:, :, : self.sinks])
        if self.middle:
            groups.append(segment.history[1][:, :, self._middle])
        return [self._heads(value, part) for value in groups]

    def _window_scores(self, part: slice) -> Tensor:
        config = self.layer.config
        heads = part.stop - part.start
        scores = self.queries.window_scores(heads, self.rows, self.window)
        self._multiply(self.queries.near, self.segment.window_key[:, :, self._window], part, scores)
        window = scores.unflatten(1, (-1, self.size))
        capped = self.window - config.limit_distance if config.caps_window and self._slopes is None else 0
        if capped > 0:
            raw_key = self.segment.window_raw[:, :, self._window][:, :, :capped]
            beyond = self._multiply(self.queries.far, raw_key, part, scores.new_empty(heads, self.rows, capped))
            is_beyond = self._distances(self.window_first, capped) >= config.limit_distance
            window[..., :capped] = torch.where(is_beyond, beyond.unflatten(1, (-1, self.size)), window[..., :capped])
        if self._slopes is not None:  # else no distances as wide as the window are needed
            self._add_bias(part, window, self._distances(self.window_first, self.window))
        edge = self.size, config.local_branch, scores.dtype, scores.device
        window[..., -self.size :] += _barrier(0, *edge)
        if self.window > config.local_branch:
            window[..., : self.size] += _barrier(self.position - self.window_first, *edge)
        return scores

    @cached_property
    def _sink_scores(self) -> Tensor:
        """`[B * Hkv, rows, sinks]`."""
        queries = self.queries
        return score_sinks(
            self.layer,
            queries.sink_key[:, :, : self.sinks].flatten(0, 1),
            self._distances(0, self.sinks),
            near=lambda: self._fold(queries.for_sinks),
            far=lambda: self._fold(queries.raw),
            far_key=lambda: queries.capped_sink_key[:, :, : self.sinks].flatten(0, 1),
            slopes=self._slopes,
        )

    def _middle_scores(self, part: slice) -> Tensor:
        config = self.layer.config
        scores = self.queries.far.new_empty(part.stop - part.start, self.rows, self.middle)
        self._multiply(self.queries.far, self.segment.history[0][:, :, self._middle], part, scores)
        grouped = scores.unflatten(1, (-1, self.size))
        if self._slopes is not None:
            self._add_bias(part, grouped, torch.full((1, 1), config.limit_distance, device=scores.device))
        attended = self._distances(self._middle.start, self.middle) >= config.local_branch
        count = attended.sum(-1, keepdim=True).clamp(min=1)
        grouped.sub_((config.triangle_offset * count.double().log2()).to(scores.dtype))
        grouped.masked_fill_(~attended, float("-inf"))
        return scores

    def _multiply(self, queries: Tensor, key: Tensor, part: slice, scores: Tensor) -> Tensor:
        """Products of queries `[B, Hq, m, d]` and key `[B, Hkv, k, d]`, in scores `[heads of part, rows, k]`."""
        multiply(self._fold(queries, part), self._heads(key, part).transpose(1, 2), scores)
        return scores

    def _fold(self, queries: Tensor, part: slice = slice(None)) -> Tensor:
        """Those of the block from `[B, Hq, m, d]`, `[heads of part, rows, d]`."""
        by_key_head = queries.flatten(0, 1).unflatten(0, (-1, self.rows // self.size))
        return by_key_head[part, :, self.first : self.last].flatten(1, 2)

    def _heads(self, tensor: Tensor, part: slice) -> Tensor:
        """Keys or values `[B, Hkv, k, d]` as `[heads of part, k, d]`."""
        return tensor.flatten(0, 1)[part].to(self.queries.dtype)

    def _add_bias(self, part: slice, scores: Tensor, distance: Tensor) -> None:
        """ALiBi: take `slope * min(distance, D)` off scores `[heads of part, g, size, k]`, per query head."""
        felt = self.layer.config.capped(distance).to(scores.dtype)
        scores.addcmul_(self._slopes[part], felt, value=-1)

    @cached_property
    def _slopes(self) -> Tensor | None:
        """Those of ALiBi, per query head, in bits, `[B * Hkv, g, 1, 1]`."""
        positions, (rows, key_heads) = self.layer.positions, self.segment.window_key.shape[:2]
        if positions.slopes is None:
            return None
        slopes = positions.slopes_on(self.segment.query.device) * BITS_PER_NAT
        return slopes.view(key_heads, -1, 1, 1).repeat(rows, 1, 1, 1)

    def _distances(self, first_key: int, count: int) -> Tensor:
        """int64 `[size, count]`: distances of the block's queries to the keys at first_key, first_key + 1, ..."""
        return _distances(self.size, count, self.position - first_key, self.segment.query.device)


@lru_cache(maxsize=8)
def _distances(size: int, count: int, offset: int, device: torch.device) -> Tensor:
    return offset + torch.arange(size, device=device)[:, None] - torch.arange(count, device=device)


@lru_cache(maxsize=8)
def _barrier(offset: int, size: int, local_branch: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """-inf where a distance is not within the window, else 0, `[size, size]`: the same in block after block."""
    distance = _distances(size, size, offset, device)
    closed = (distance < 0) | (distance >= local_branch)
    return torch.zeros(size, size, dtype=dtype, device=device).masked_fill_(closed, float("-inf"))
