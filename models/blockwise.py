"""Λ-attention by plain matrix products: per block of queries, scores that stay in the processor's cache.

Runs on any device and dtype, for every option of the method. The softmax is not normalised before the values are
weighed: `2^score` is taken as it is, and their sum divides the result. Only where that sum leaves a range in which no
weight that counts is lost is a block done again with the largest score of each row taken off, as a softmax does.
"""

import torch
from torch import Tensor

from models.block_scores import Block, BlockQueries
from models.lambda_config import AttentionLayer
from models.products import multiply
from models.segment import Segment

QUERY_BLOCK = 256
SCORE_COLUMN_BYTES = 1536
"""Queries of a block, and bytes of a column of scores: where heads share keys, a block has fewer queries."""
SCORE_BUFFER_BYTES = 2 * 2**20
"""Key heads are scored together up to this size, so that the softmax and both products find their scores in cache."""
SAFE_SUMS = 2.0**-60, 2.0**60
"""Of weights `2^score`: within, float32 and bfloat16 lose no weight that counts and overflow in no product."""


def attend_blockwise(segment: Segment, layer: AttentionLayer, output: Tensor) -> None:
    """Write the attention of the segment's queries into output `[B, Hq, m, d_v]`."""
    queries, count = BlockQueries(segment, layer), segment.query.shape[-2]
    heads = segment.window_key.shape[:2].numel()
    shifted = [segment.query.is_cuda] * heads  # a GPU would wait for the answer whether a block is to be done again
    block_size = _block_size(segment, queries.dtype)
    for first in range(0, count, block_size):
        _attend_block(Block(queries, first, min(first + block_size, count)), shifted, output)


def _block_size(segment: Segment, dtype: torch.dtype) -> int:
    """Queries per block; fewer where the middle makes each row of scores as long as the sequence."""
    group = segment.query.shape[1] // segment.window_key.shape[1]
    size = max(1, min(QUERY_BLOCK, SCORE_COLUMN_BYTES // dtype.itemsize // group))
    if segment.history is None:
        return size
    row_bytes = 4 * group * (segment.start + segment.query.shape[-2])
    return max(1, min(size, SCORE_BUFFER_BYTES // row_bytes))


def _attend_block(block: Block, shifted: list[bool], output: Tensor) -> None:
    """All heads of a block, as many at once as the score buffer holds. shifted: what was found for each key head."""
    dtype, heads, rows = block.queries.dtype, len(shifted), block.rows
    at_once = max(1, SCORE_BUFFER_BYTES // (dtype.itemsize * rows * block.columns))
    result = torch.empty(heads, rows, output.shape[-1], dtype=dtype, device=output.device)
    total = torch.empty(heads, rows, 1, dtype=_wide(dtype), device=output.device)
    for first in range(0, heads, at_once):
        part = slice(first, min(first + at_once, heads))
        weights, total[part] = _weights(block, part, any(shifted[part]))
        if not any(shifted[part]) and not _is_safe(total[part]):
            shifted[part] = [True] * (part.stop - part.start)
            weights, total[part] = _weights(block, part, shifted=True)
        _weigh(block, part, weights, result[part])
    shape = *output.shape[:2], block.size, -1
    output[:, :, block.first : block.last] = result.div_(total).view(shape)


def _weights(block: Block, part: slice, shifted: bool) -> tuple[list[Tensor], Tensor]:
    """`2^score` of the part's heads, `[heads, rows, columns]` per group of columns; their sums, `[heads, rows, 1]`."""
    groups = block.scores(part)
    if shifted:
        highest = torch.stack([scores.amax(-1, keepdim=True) for scores in groups]).amax(0)
        for scores in groups:
            scores.sub_(highest)
    return groups, sum(scores.exp2_().sum(-1, keepdim=True).to(_wide(scores.dtype)) for scores in groups)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """What sums of weights are kept in."""
    return torch.promote_types(dtype, torch.float32)


def _is_safe(total: Tensor) -> bool:
    low, high = total.aminmax()
    return bool(SAFE_SUMS[0] <= low and high <= SAFE_SUMS[1])


def _weigh(block: Block, part: slice, groups: list[Tensor], result: Tensor) -> None:
    """Write the values, weighted, into result `[heads of part, rows, d_v]`."""
    window, *others = zip(groups, block.values(part))
    multiply(*window, result)
    for weights, values in others:
        result.baddbmm_(weights, values)
