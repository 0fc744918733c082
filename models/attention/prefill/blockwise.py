"""Λ-attention by plain matrix products: per block of queries, scores that stay in the processor's cache.

Runs on any device and dtype, for every option of the method. The softmax is not normalised before the values are
weighed: `2^score` is taken as it is, and their sum divides the result. Only where that sum leaves a range in which no
weight that counts is lost is a block done again with the largest score of each row taken off, as a softmax does.
"""

from collections.abc import Iterator

import torch
from einops import rearrange
from torch import Tensor

from ..config import AttentionLayer
from ..workers import run_shared
from .block_scores import Block
from .matrix_products import add_product
from .segment import Segment
from .segment_scores import ScoreMemory, SegmentScores, score_dtype

QUERY_BLOCK = 256
SCORE_COLUMN_BYTES = 1536
"""Queries of a block, and bytes of a column of scores: where heads share keys, a block has fewer queries."""
SCORE_BUFFER_BYTES = 2 * 2**20
"""Key heads are scored together up to this size, so that the softmax and both products find their scores in cache."""
GPU_QUERY_BLOCK = 512
GPU_SCORE_BUFFER_BYTES = 2**29
"""The same on a GPU, where a launch costs as much as megabytes: all heads at once, and key heads in longer columns."""
LONGEST_RUN, PIECES_PER_THREAD = 4, 4
"""Blocks that a thread takes one after the other: their queries are encoded at once, and what it found out about the
first one counts for the others; and how many such pieces of work there are to be for each thread."""
SAFE_SUMS = 2.0**-60, 2.0**60
"""Bounds of sums of weights `2^score`: within, float32 and bfloat16 lose no weight that counts, and none overflows."""


def attend_blockwise(segment: Segment, layer: AttentionLayer, output: Tensor) -> None:
    """Write the attention of the segment's queries into output `[B, Hq, m, d_v]`."""
    _attend(segment, layer, output, by_onednn=False)


def attend_blockwise_by_onednn(segment: Segment, layer: AttentionLayer, output: Tensor) -> None:
    """The same with oneDNN's products."""
    _attend(segment, layer, output, by_onednn=True)


def _attend(segment: Segment, layer: AttentionLayer, output: Tensor, by_onednn: bool) -> None:
    memory = ScoreMemory()
    pieces = [(*piece, by_onednn, memory) for piece in _pieces(segment, layer, output)]
    if output.device.type == "cpu":
        run_shared(_attend_piece, pieces)
        return
    for piece in pieces:
        _attend_piece(*piece)


def _pieces(
    segment: Segment, layer: AttentionLayer, output: Tensor
) -> Iterator[tuple[Segment, AttentionLayer, Tensor]]:
    """The segment cut by rows of the batch, by heads and by queries, each a segment that nothing is shared with.

    As many heads as are scored at once, and on the CPU so few blocks that no thread is without a piece for long.
    """
    size, buffer_bytes = _block_sizes(segment, layer)
    rows, key_heads = segment.window_key.shape[:2]
    count, group = segment.query.shape[-2], segment.query.shape[1] // key_heads
    columns = min(layer.config.local_branch, segment.start + count) + min(size, count) - 1
    fit = buffer_bytes // (columns * min(size, count) * group * score_dtype(layer, segment.query.dtype).itemsize)
    at_once = max(1, min(key_heads, fit)), max(1, fit // key_heads)
    blocks = _longest_run(-(-count // size), -(-key_heads // at_once[0]) * -(-rows // at_once[1]), output.device)
    for first in range(0, count, blocks * size):
        queries = slice(first, min(first + blocks * size, count))
        for head in range(0, key_heads, at_once[0]):
            heads = slice(head, min(head + at_once[0], key_heads))
            query_heads = slice(group * heads.start, group * heads.stop)
            for row in range(0, rows, at_once[1]):
                batch = slice(row, row + at_once[1])
                of_heads = layer if at_once[0] == key_heads else layer.of_heads(query_heads, output.device)
                yield segment.part(batch, heads, queries), of_heads, output[batch, query_heads, queries]


def _longest_run(blocks: int, parts: int, device: torch.device) -> int:
    """Consecutive blocks of a piece, where each has so many parts of its heads."""
    if device.type != "cpu":
        return blocks
    pieces = PIECES_PER_THREAD * torch.get_num_threads()
    return max(1, min(LONGEST_RUN, blocks * parts // pieces))


def _weigh_sinks(shared: SegmentScores) -> tuple[Tensor, Tensor]:
    """The first tokens' weighted values, `[heads, g, m, d_v]`, and sums of weights, `[heads, g, m, 1]`.

    The learned score of a head is among the sums: it weighs nothing.
    """
    shape, wide = (shared.heads, shared.group, shared.segment.query.shape[-2]), _wide(shared.dtype)
    if not shared.sinks or shared.values.is_cuda:  # on a GPU every block weighs its own, shifted
        widths = (shared.values.shape[-1], shared.dtype), (1, wide)
        weighted, total = (shared.values.new_zeros(*shape, width, dtype=dtype) for width, dtype in widths)
    else:
        weights = rearrange(shared.score_sinks().exp2_(), "heads g m sinks -> heads (g m) sinks")
        total = weights.sum(-1, keepdim=True).to(wide)
        rows = "heads (g m) x -> heads g m x"
        weighted, total = (rearrange(x, rows, g=shared.group) for x in (weights @ shared.sink_values, total))
    return weighted, total if shared.sink_logit is None else total + shared.sink_logit.exp2()


def _block_sizes(segment: Segment, layer: AttentionLayer) -> tuple[int, int]:
    """Queries per block and bytes of its scores."""
    if segment.query.is_cuda:
        return GPU_QUERY_BLOCK, GPU_SCORE_BUFFER_BYTES
    group = segment.query.shape[1] // segment.window_key.shape[1]
    return queries_of_block(group, score_dtype(layer, segment.query.dtype)), SCORE_BUFFER_BYTES


def queries_of_block(group: int, dtype: torch.dtype) -> int:
    """Queries per block on the CPU, of which `group` heads share a key head; dtype: of scores."""
    return max(1, min(QUERY_BLOCK, SCORE_COLUMN_BYTES // dtype.itemsize // group))


def _attend_piece(
    segment: Segment, layer: AttentionLayer, output: Tensor, by_onednn: bool, memory: ScoreMemory
) -> None:
    """Write the attention of the segment's queries into output, block by block, all heads at once."""
    size, _ = _block_sizes(segment, layer)
    shared, count = SegmentScores(segment, layer, memory, by_onednn), segment.query.shape[-2]
    sinks = _weigh_sinks(shared)
    shifted = output.is_cuda  # a GPU would wait for the answer whether sums are safe
    for first in range(0, count, size):
        block = Block(shared, first, min(first + size, count))
        weighted, total = (block.rows_of(x) for x in sinks)
        shifted = shifted or not _add(block, weighted, total)
        if shifted:  # and so are the blocks that follow, at once
            _weigh_shifted(block, weighted, total)
        _write(block, weighted, total, output)


def _write(block: Block, weighted: Tensor, total: Tensor, output: Tensor) -> None:
    """Write a block's attention, `weighted / total`, into output `[B, Hq, m, d_v]`, whatever its strides."""
    shape = *output.shape[:2], block.size, -1
    torch.div(weighted.view(shape), total.view(shape), out=output[:, :, block.first : block.last])


def _add(block: Block, weighted: Tensor, total: Tensor) -> bool:
    """Add a block to the first tokens' weighted values `[heads, rows, d_v]` and total of weights `[heads, rows, 1]`.

    False, with weighted as it was, where a total is not safe.
    """
    weights = block.scores()
    total += block.weigh_window()
    low, high = (float(x) for x in total.aminmax())
    is_safe = SAFE_SUMS[0] <= low and high <= SAFE_SUMS[1]
    if is_safe:
        _weigh(block, weights, block.values(), weighted)
    return is_safe


def _weigh_shifted(block: Block, weighted: Tensor, total: Tensor) -> None:
    """Write what `_add` adds up to, with the largest score of each row taken off all of them."""
    weights = block.scores(whole=True)
    highest = torch.stack([scores.amax(-1, keepdim=True) for scores in weights]).amax(0)
    learned = None if block.shared.sink_logit is None else block.sink_logit()
    if learned is not None:
        highest = torch.maximum(highest, learned.to(highest.dtype))
    for scores in weights:
        scores.sub_(highest)
    total.copy_(_exponentiate(block, weights[1:]))
    if learned is not None:
        total += (learned - highest).exp2()
    _weigh(block, weights, block.values(whole=True), weighted.zero_())


def _exponentiate(block: Block, others: list[Tensor]) -> Tensor:
    """Turn the scores of the window, and the others, into weights `2^score`; their sums, `[heads, rows, 1]`."""
    total = block.weigh_window()
    for scores in others:
        total += scores.exp2_().sum(-1, keepdim=True)
    return total


def _weigh(block: Block, weights: list[Tensor], values: list[Tensor], weighted: Tensor) -> None:
    """Add the products of weights `[heads, rows, columns]` and values `[heads, columns, d_v]`, kind by kind."""
    for pair in zip(weights, values):
        add_product(*pair, weighted, block.shared.by_onednn)


def _wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums of weights."""
    return torch.promote_types(dtype, torch.float32)
