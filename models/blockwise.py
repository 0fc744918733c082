"""Λ-attention by plain matrix products: per block of queries one score buffer that stays in the processor's cache.

Runs on any device and dtype, for every option of the method. The score columns of a block are `[first | window |
middle]`; one softmax over them is the whole method. Query heads that share a key head are folded into rows, so
grouped-query keys are never copied. The first tokens' columns lie over those of the keys just before the window, so
that both products run over contiguous memory: half-precision ones would else copy every score.
"""

from functools import cached_property, lru_cache

import torch
from torch import Tensor

from models.lambda_config import AttentionLayer
from models.segment import Segment
from models.sinks import score_sinks

QUERY_BLOCK = 128
SCORE_ROWS = 1024
"""Queries of a block, and rows of scores per key head: where heads share keys, a block has fewer queries."""
SCORE_BUFFER_BYTES = 4 * 2**20
"""Key heads are scored together up to this size, so that softmax and both products find their scores in the cache."""


def attend_blockwise(segment: Segment, layer: AttentionLayer, output: Tensor) -> None:
    """Write the attention of the segment's queries into output `[B, Hq, m, d_v]`."""
    queries, count = _Queries(segment, layer), segment.query.shape[-2]
    block_size = _block_size(segment, layer)
    for first in range(0, count, block_size):
        _attend_block(_Block(queries, first, min(first + block_size, count)), output)


def _block_size(segment: Segment, layer: AttentionLayer) -> int:
    """Queries per block; fewer where the middle makes each row of scores as long as the sequence."""
    group = segment.query.shape[1] // segment.padded_key.shape[1]
    size = max(1, min(QUERY_BLOCK, SCORE_ROWS // group))
    if segment.history is None:
        return size
    row_bytes = 4 * group * (segment.start + segment.query.shape[-2])
    return max(1, min(size, SCORE_BUFFER_BYTES // row_bytes))


class _Queries:
    """A segment's queries, `[B, Hq, m, d]`, in the dtype of scores, in every form that keys feel them in.

    Scaled before the products, lest float16 overflows.
    """

    def __init__(self, segment: Segment, layer: AttentionLayer) -> None:
        self.segment, self.layer = segment, layer
        # A bias of thousands needs float32 scores: bfloat16 would round it by whole units.
        self.dtype = torch.float32 if layer.positions.slopes is not None else segment.query.dtype

    @cached_property
    def raw(self) -> Tensor:
        return self._scaled(self.segment.query)

    @cached_property
    def near(self) -> Tensor:
        """As keys at their true distance feel them."""
        return self._scaled(self.layer.positions.at(self.segment.query, self.segment.start))

    @cached_property
    def far(self) -> Tensor:
        """As keys at the limit feel them."""
        limit = self.layer.config.limit_distance
        if limit is None or self.layer.positions.slopes is not None:
            return self.near
        return self._scaled(self.layer.positions.at_distance(self.segment.query, limit))

    @cached_property
    def for_sinks(self) -> Tensor:
        """As the first tokens feel them before any limit."""
        latest = self.layer.config.latest_position
        if latest is None:
            return self.near
        return self._scaled(self.layer.positions.at(self.segment.query, self.segment.start, latest))

    def _scaled(self, query: Tensor) -> Tensor:
        return (query * self.layer.scale).to(self.dtype)

    @cached_property
    def sink_key(self) -> Tensor:
        return self.segment.sink_key.to(self.dtype)

    @cached_property
    def capped_sink_key(self) -> Tensor:
        """`R_-D k`, for `(R_D q)·k = q·(R_-D k)`: there are fewer first tokens than queries."""
        limit = self.layer.config.limit_distance
        return self.layer.positions.at_distance(self.sink_key, -limit)


class _Block:
    """Queries first .. last - 1 of a segment, and which columns they reach."""

    def __init__(self, queries: _Queries, first: int, last: int) -> None:
        self.queries, self.segment, self.layer = queries, queries.segment, queries.layer
        config, segment = self.layer.config, self.segment
        self.first, self.last, self.size = first, last, last - first
        self.position = segment.start + first
        last_position = segment.start + last - 1
        self.window_first = max(0, self.position - config.local_branch + 1)
        self.window = last_position + 1 - self.window_first
        reached = max(0, last_position - config.local_branch + 1)
        self.sinks = min(config.global_branch, segment.sink_key.shape[-2], reached)
        self.middle = max(0, reached - config.global_branch) if config.triangle_offset else 0
        self.columns = self.sinks + self.window + self.middle
        offset = segment.margin - segment.window_start
        self.padded = slice(self.window_first - self.sinks + offset, last_position + 1 + offset)

    def fold(self, queries: Tensor) -> Tensor:
        """Those of the block from `[B, Hq, m, d]`, `[B * Hkv, g * size, d]`."""
        part = queries[:, :, self.first : self.last]
        return part.reshape(part.shape[0] * self.segment.padded_key.shape[1], -1, part.shape[-1])

    def distances(self, first_key: int, count: int) -> Tensor:
        """int64 `[size, count]`: distances of the block's queries to the keys at first_key, first_key + 1, ..."""
        return _distances(self.size, count, self.position - first_key, self.segment.query.device)

    @cached_property
    def slopes(self) -> Tensor | None:
        """Those of ALiBi, per query head, `[B * Hkv, g, 1, 1]`."""
        positions, (rows, key_heads) = self.layer.positions, self.segment.padded_key.shape[:2]
        if positions.slopes is None:
            return None
        return positions.slopes_on(self.segment.query.device).view(key_heads, -1, 1, 1).repeat(rows, 1, 1, 1)


@lru_cache(maxsize=8)
def _distances(size: int, count: int, offset: int, device: torch.device) -> Tensor:
    return offset + torch.arange(size, device=device)[:, None] - torch.arange(count, device=device)


@lru_cache(maxsize=8)
def _beyond(size: int, count: int, offset: int, farthest: int, device: torch.device) -> Tensor:
    """Where the distances are at least `farthest`: the same in block after block."""
    return _distances(size, count, offset, device) >= farthest


def _attend_block(block: _Block, output: Tensor) -> None:
    """All heads of a block, as many at once as the score buffer holds."""
    near = block.fold(block.queries.near)
    heads, rows = near.shape[:2]
    at_once = max(1, SCORE_BUFFER_BYTES // (near.element_size() * rows * block.columns))
    buffer = near.new_empty(min(at_once, heads), rows, block.columns)
    first_scores = _sink_scores(block) if block.sinks else None
    result = near.new_empty(heads, rows, output.shape[-1])
    for first in range(0, heads, at_once):
        part = slice(first, min(first + at_once, heads))
        scores = buffer[: part.stop - part.start]
        _score_window(block, near[part], part, scores[..., : block.sinks + block.window])
        if block.sinks:
            scores[..., : block.sinks] = first_scores[part]
        if block.middle:
            _score_middle(block, part, scores[..., block.sinks + block.window :])
        torch.softmax(scores, -1, out=scores)
        _weigh(block, part, scores, result[part])
    rows, heads, _, width = output.shape
    output[:, :, block.first : block.last] = result.view(rows, heads, block.size, width)


def _score_window(block: _Block, near: Tensor, part: slice, scores: Tensor) -> None:
    """Fill scores `[heads of part, g * size, sinks + window]`, -inf where the window does not reach."""
    queries, config, device = block.queries, block.layer.config, scores.device
    torch.bmm(near, _keys(block.segment.padded_key[:, :, block.padded], part, queries.dtype), out=scores)
    window = scores[..., block.sinks :].unflatten(1, (-1, block.size))
    if config.caps_window and block.slopes is None and block.window > config.limit_distance:
        capped = block.window - config.limit_distance
        raw_key = block.segment.padded_raw[:, :, block.padded][:, :, block.sinks :][:, :, :capped]
        beyond = torch.bmm(block.fold(queries.far)[part], _keys(raw_key, part, queries.dtype))
        is_beyond = block.distances(block.window_first, capped) >= config.limit_distance
        window[..., :capped] = torch.where(is_beyond, beyond.unflatten(1, (-1, block.size)), window[..., :capped])
    if block.slopes is not None:  # else no distances as wide as the window are needed
        _add_bias(block, part, window, block.distances(block.window_first, block.window))
    shift = block.position - block.window_first
    window[..., shift + 1 :].masked_fill_(_future(block.size, device), float("-inf"))
    leaving = block.window - config.local_branch
    if leaving > 0:
        too_far = _beyond(block.size, leaving, shift, config.local_branch, device)
        window[..., :leaving].masked_fill_(too_far, float("-inf"))


@lru_cache(maxsize=8)
def _future(size: int, device: torch.device) -> Tensor:
    """Where the keys 1, 2, ... of a block lie behind its queries 0, 1, ..., `[size, size - 1]`."""
    return _distances(size, size - 1, -1, device) < 0


def _sink_scores(block: _Block) -> Tensor:
    """`[B * Hkv, g * size, sinks]`."""
    queries = block.queries
    return score_sinks(
        block.layer,
        queries.sink_key[:, :, : block.sinks].flatten(0, 1),
        block.distances(0, block.sinks),
        near=lambda: block.fold(queries.for_sinks),
        far=lambda: block.fold(queries.raw),
        far_key=lambda: queries.capped_sink_key[:, :, : block.sinks].flatten(0, 1),
        slopes=block.slopes,
    )


def _score_middle(block: _Block, part: slice, scores: Tensor) -> None:
    config, columns = block.layer.config, scores.shape[-1]
    middle = slice(config.global_branch, config.global_branch + columns)
    key = _keys(block.segment.history[0][:, :, middle], part, scores.dtype)
    torch.bmm(block.fold(block.queries.far)[part], key, out=scores)
    grouped = scores.unflatten(1, (-1, block.size))
    if block.slopes is not None:
        _add_bias(block, part, grouped, torch.full((1, 1), config.limit_distance, device=scores.device))
    attended = block.distances(middle.start, columns) >= config.local_branch
    count = attended.sum(-1, keepdim=True).clamp(min=1)
    grouped.sub_((config.triangle_offset * count.double().log()).to(scores.dtype))
    grouped.masked_fill_(~attended, float("-inf"))


def _add_bias(block: _Block, part: slice, scores: Tensor, distance: Tensor) -> None:
    """ALiBi: take `slope * min(distance, D)` off scores `[heads of part, g, size, k]`, per query head."""
    felt = block.layer.config.capped(distance).to(scores.dtype)
    scores.addcmul_(block.slopes[part], felt, value=-1)


def _weigh(block: _Block, part: slice, weights: Tensor, result: Tensor) -> None:
    """Write the values weighted by the softmax into result `[heads of part, g * size, d_v]`; takes weights apart."""
    segment, dtype, sinks = block.segment, result.dtype, block.sinks
    first = weights[..., :sinks].clone()
    weights[..., :sinks] = 0  # the values under these columns are not the first tokens'
    values = _values(segment.padded_value[:, :, block.padded], part, dtype)
    torch.bmm(weights[..., : sinks + block.window], values, out=result)
    if sinks:
        result.baddbmm_(first, _values(segment.sink_value[:, :, :sinks], part, dtype))
    if block.middle:
        start = block.layer.config.global_branch
        values = _values(segment.history[1][:, :, start : start + block.middle], part, dtype)
        result.baddbmm_(weights[..., sinks + block.window :], values)


def _values(value: Tensor, part: slice, dtype: torch.dtype) -> Tensor:
    """`[B, Hkv, k, d]` to `[heads of part, k, d]`."""
    return value.flatten(0, 1)[part].to(dtype)


def _keys(key: Tensor, part: slice, dtype: torch.dtype) -> Tensor:
    """`[B, Hkv, k, d]` to `[heads of part, d, k]`."""
    return _values(key, part, dtype).transpose(1, 2)
