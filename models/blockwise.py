"""Λ-attention by plain matrix products: per block of queries one score buffer that stays in the processor's cache.

Runs on any device and dtype, for every option of the method. The score columns of a block are `[window | first |
middle]`; one softmax over them is the whole method. Query heads that share a key head are folded into rows, so
grouped-query keys are never copied.
"""

from functools import cached_property, lru_cache

import torch
from torch import Tensor

from models.lambda_config import AttentionLayer
from models.segment import Segment
from models.sinks import score_sinks

QUERY_BLOCK = 256
SCORE_ROWS = 1024
"""Queries of a block, and rows of scores per key head: where heads share keys, a block has fewer queries."""
SCORE_BUFFER_BYTES = 16 * 2**20
"""Key heads are scored together up to this size, so that softmax and both products find their scores in the cache."""


def attend_blockwise(segment: Segment, layer: AttentionLayer, output: Tensor) -> None:
    """Write the attention of the segment's queries into output `[B, Hq, m, d_v]`."""
    queries = segment.query.shape[-2]
    block_size = _block_size(segment, layer)
    for first in range(0, queries, block_size):
        last = min(first + block_size, queries)
        _attend_block(_Block(segment, layer, first, last), output)


def _block_size(segment: Segment, layer: AttentionLayer) -> int:
    """Queries per block; fewer where the middle makes each row of scores as long as the sequence."""
    group = segment.query.shape[1] // segment.window_key.shape[1]
    size = max(1, min(QUERY_BLOCK, SCORE_ROWS // group))
    if segment.history is None:
        return size
    row_bytes = 4 * group * (segment.start + segment.query.shape[-2])
    return max(1, min(size, SCORE_BUFFER_BYTES // row_bytes))


class _Block:
    """Queries first .. last - 1 of a segment, and which columns they reach.

    near, far, sink_query: the queries `[B * Hkv, g * size, d]` as keys at their true distance, those at the limit, and
    the first tokens before any limit feel them.
    """

    def __init__(self, segment: Segment, layer: AttentionLayer, first: int, last: int) -> None:
        config = layer.config
        self.segment, self.layer, self.first, self.last = segment, layer, first, last
        self.size = last - first
        self.position = segment.start + first
        last_position = segment.start + last - 1
        self.window_first = max(0, self.position - config.local_branch + 1)
        self.window = slice(self.window_first - segment.window_start, last_position + 1 - segment.window_start)
        reached = max(0, last_position - config.local_branch + 1)
        self.sinks = min(config.global_branch, segment.sink_key.shape[-2], reached)
        self.middle = max(0, reached - config.global_branch) if config.triangle_offset else 0
        self.columns = self.window.stop - self.window.start + self.sinks + self.middle
        dtype = segment.query.dtype
        # A bias of thousands needs float32 scores: bfloat16 would round it by whole units.
        self.dtype = torch.float32 if layer.positions.slopes is not None else dtype

    @property
    def raw(self) -> Tensor:
        return self.segment.query[:, :, self.first : self.last]

    @cached_property
    def near(self) -> Tensor:
        return self.fold(self.layer.positions.at(self.raw, self.position))

    @cached_property
    def far(self) -> Tensor:
        limit = self.layer.config.limit_distance
        if limit is None or self.layer.positions.slopes is not None:
            return self.near
        return self.fold(self.layer.positions.at_distance(self.raw, limit))

    @cached_property
    def sink_query(self) -> Tensor:
        latest = self.layer.config.latest_position
        return self.near if latest is None else self.fold(self.layer.positions.at(self.raw, self.position, latest))

    def fold(self, query: Tensor) -> Tensor:
        """`[B, Hq, size, d]` to `[B * Hkv, g * size, d]`, scaled before the product, lest float16 overflows."""
        rows, heads, size, width = query.shape
        key_heads = self.segment.window_key.shape[1]
        return (query * self.layer.scale).to(self.dtype).reshape(rows * key_heads, heads // key_heads * size, width)

    def distances(self, first_key: int, count: int) -> Tensor:
        """int64 `[size, count]`: distances of the block's queries to the keys at first_key, first_key + 1, ..."""
        device = self.segment.query.device
        return _distances(self.size, count, self.position - first_key, device)

    def slopes(self, part: slice) -> Tensor | None:
        """Those of ALiBi, per query head, `[heads of part, g, 1, 1]`."""
        positions, (rows, key_heads) = self.layer.positions, self.segment.window_key.shape[:2]
        if positions.slopes is None:
            return None
        slopes = positions.slopes_on(self.segment.query.device)
        return slopes.view(key_heads, -1, 1, 1).repeat(rows, 1, 1, 1)[part]


@lru_cache(maxsize=8)
def _distances(size: int, count: int, offset: int, device: torch.device) -> Tensor:
    return offset + torch.arange(size, device=device)[:, None] - torch.arange(count, device=device)


def _attend_block(block: _Block, output: Tensor) -> None:
    """All heads of a block, as many at once as the score buffer holds."""
    heads, rows = block.near.shape[0], block.near.shape[1]
    at_once = max(1, SCORE_BUFFER_BYTES // (block.near.element_size() * rows * block.columns))
    buffer = block.near.new_empty(min(at_once, heads), rows, block.columns)
    result = output.new_empty(heads, rows, output.shape[-1])
    for first in range(0, heads, at_once):
        part = slice(first, min(first + at_once, heads))
        scores = buffer[: part.stop - part.start]
        _score(block, part, scores)
        torch.softmax(scores, -1, out=scores)
        result[part] = _weigh(block, part, scores)
    output[:, :, block.first : block.last] = result.view(*block.raw.shape[:-1], output.shape[-1])


def _score(block: _Block, part: slice, scores: Tensor) -> None:
    """Fill scores `[heads of part, g * size, columns]`, -inf where a key is not attended."""
    window = block.window.stop - block.window.start
    _score_window(block, part, scores[:, :, :window])
    if block.sinks:
        scores[:, :, window : window + block.sinks] = _sink_scores(block, part)
    if block.middle:
        _score_middle(block, part, scores[:, :, window + block.sinks :])


def _score_window(block: _Block, part: slice, scores: Tensor) -> None:
    config, columns = block.layer.config, scores.shape[-1]
    shift = block.position - block.window_first
    torch.bmm(block.near[part], _keys(block.segment.window_key[:, :, block.window], part, block.dtype), out=scores)
    grouped = scores.unflatten(1, (-1, block.size))
    if config.caps_window and block.layer.positions.slopes is None and columns > config.limit_distance:
        capped = columns - config.limit_distance
        raw_key = block.segment.window_raw[:, :, block.window][:, :, :capped]
        beyond = torch.bmm(block.far[part], _keys(raw_key, part, block.dtype)).unflatten(1, (-1, block.size))
        is_beyond = block.distances(block.window_first, capped) >= config.limit_distance
        grouped[..., :capped] = torch.where(is_beyond, beyond, grouped[..., :capped])
    if block.layer.positions.slopes is not None:  # else no distances as wide as the window are needed
        _add_bias(block, part, scores, block.distances(block.window_first, columns))
    grouped[..., shift:].masked_fill_(block.distances(block.position, block.size) < 0, float("-inf"))
    leaving = columns - config.local_branch
    if leaving > 0:
        too_far = block.distances(block.window_first, leaving) >= config.local_branch
        grouped[..., :leaving].masked_fill_(too_far, float("-inf"))


def _sink_scores(block: _Block, part: slice) -> Tensor:
    """`[heads of part, g * size, sinks]`."""
    key = _values(block.segment.sink_key[:, :, : block.sinks], part, block.dtype)
    return score_sinks(
        block.layer,
        key,
        block.distances(0, block.sinks),
        near=lambda: block.sink_query[part],
        far=lambda: block.far[part],
        slopes=block.slopes(part),
    )


def _score_middle(block: _Block, part: slice, scores: Tensor) -> None:
    config, columns = block.layer.config, scores.shape[-1]
    middle = slice(config.global_branch, config.global_branch + columns)
    torch.bmm(block.far[part], _keys(block.segment.history[0][:, :, middle], part, block.dtype), out=scores)
    _add_bias(block, part, scores, torch.full((1, 1), config.limit_distance, device=scores.device))
    attended = block.distances(middle.start, columns) >= config.local_branch
    count = attended.sum(-1, keepdim=True).clamp(min=1)
    grouped = scores.unflatten(1, (-1, block.size))
    grouped.sub_((config.triangle_offset * count.double().log()).to(scores.dtype))
    grouped.masked_fill_(~attended, float("-inf"))


def _add_bias(block: _Block, part: slice, scores: Tensor, distance: Tensor) -> None:
    """ALiBi: take `slope * min(distance, D)` off, per query head."""
    slopes = block.slopes(part)
    if slopes is not None:
        felt = block.layer.config.capped(distance).to(scores.dtype)
        scores.unflatten(1, (-1, block.size)).addcmul_(slopes, felt, value=-1)


def _weigh(block: _Block, part: slice, weights: Tensor) -> Tensor:
    """Values `[heads of part, g * size, d_v]` weighted by the softmax."""
    segment, window = block.segment, block.window.stop - block.window.start
    result = torch.bmm(weights[:, :, :window], _values(segment.window_value[:, :, block.window], part, block.dtype))
    if block.sinks:
        values = _values(segment.sink_value[:, :, : block.sinks], part, block.dtype)
        result.baddbmm_(weights[:, :, window : window + block.sinks], values)
    if block.middle:
        first = block.layer.config.global_branch
        values = _values(segment.history[1][:, :, first : first + block.middle], part, block.dtype)
        result.baddbmm_(weights[:, :, window + block.sinks :], values)
    return result


def _values(value: Tensor, part: slice, dtype: torch.dtype) -> Tensor:
    """`[B, Hkv, k, d]` to `[heads of part, k, d]`."""
    return value.flatten(0, 1)[part].to(dtype)


def _keys(key: Tensor, part: slice, dtype: torch.dtype) -> Tensor:
    """`[B, Hkv, k, d]` to `[heads of part, d, k]`."""
    return _values(key, part, dtype).transpose(1, 2)
