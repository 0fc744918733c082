"""Λ-attention by plain matrix products: per block of queries, scores that stay in the processor's cache.

Runs on any device and dtype, for every option of the method. The softmax is not normalised before the values are
weighed: `2^score` is taken as it is, and their sum divides the result. Only where that sum leaves a range in which no
weight that counts is lost is a block done again with the largest score of each row taken off, as a softmax does.
"""

from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter

import torch
from einops import rearrange
from torch import Tensor

from ..config import AttentionLayer
from .block_scores import Block
from .matrix_products import add_product
from .segment import Segment
from .segment_scores import SegmentScores
from .workers import run_shared

QUERY_BLOCK = 256
SCORE_COLUMN_BYTES = 1536
"""Queries of a block, and bytes of a column of scores: where heads share keys, a block has fewer queries."""
SCORE_BUFFER_BYTES = 2 * 2**20
"""Key heads are scored together up to this size, so that the softmax and both products find their scores in cache."""
GPU_QUERY_BLOCK = 512
GPU_SCORE_BUFFER_BYTES = 2**29
"""The same on a GPU, where a launch costs as much as megabytes: all heads at once, and key heads in longer columns."""
LONGEST_RUN, PIECES_PER_THREAD = 4, 4
"""Blocks that a thread takes one after the other: what it found out about the first one counts for the others; and how
many such pieces of work there are to be for each thread."""
SAFE_SUMS = 2.0**-60, 2.0**60
"""Bounds of sums of weights `2^score`: within, float32 and bfloat16 lose no weight that counts, and none overflows."""


def attend_blockwise(segment: Segment, layer: AttentionLayer, output: Tensor) -> None:
    """Write the attention of the segment's queries into output `[B, Hq, m, d_v]`."""
    _attend(SegmentScores(segment, layer), output)


def attend_blockwise_by_onednn(segment: Segment, layer: AttentionLayer, output: Tensor) -> None:
    """The same with oneDNN's products."""
    _attend(SegmentScores(segment, layer, by_onednn=True), output)


def _attend(shared: SegmentScores, output: Tensor) -> None:
    count, on_cpu = shared.segment.query.shape[-2], output.device.type == "cpu"
    sinks, (size, buffer_bytes) = _weigh_sinks(shared), _block_sizes(shared)
    starts = range(0, count, size)
    blocks = [Block(shared, first, min(first + size, count), buffer_bytes) for first in starts]
    threads = torch.get_num_threads() if on_cpu else 1
    pieces = [(shared, run, part, sinks, output) for run, part in _pieces(blocks, threads)]
    if on_cpu:
        shared.prepare()
        run_shared(_attend_run, pieces)
        return
    for piece in pieces:
        _attend_run(*piece)


def _pieces(blocks: list[Block], threads: int) -> Iterator[tuple[list[Block], int]]:
    """Runs of consecutive blocks, and parts of their heads, so many that no thread is without one for long."""
    for _, alike in groupby(blocks, attrgetter("parts_in_all")):
        alike = list(alike)
        parts = alike[0].parts_in_all
        length = max(1, min(LONGEST_RUN, len(alike) * parts // (PIECES_PER_THREAD * threads)))
        for first in range(0, len(alike), length):
            for part in range(parts):
                yield alike[first : first + length], part


def _weigh_sinks(shared: SegmentScores) -> tuple[Tensor, Tensor]:
    """The first tokens' weighted values, `[B * Hkv, g, m, d_v]`, and sums of weights, `[B * Hkv, g, m, 1]`.

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


def _block_sizes(shared: SegmentScores) -> tuple[int, int]:
    """Queries per block and bytes of its scores."""
    if shared.values.is_cuda:
        return GPU_QUERY_BLOCK, GPU_SCORE_BUFFER_BYTES
    rows = SCORE_COLUMN_BYTES // shared.dtype.itemsize // shared.group
    return max(1, min(QUERY_BLOCK, rows)), SCORE_BUFFER_BYTES


def _attend_run(
    shared: SegmentScores, blocks: list[Block], part: int, sinks: tuple[Tensor, Tensor], output: Tensor
) -> None:
    """Consecutive blocks of some heads. sinks: as `_weigh_sinks` has them."""
    shifted = output.is_cuda  # a GPU would wait for the answer whether sums are safe
    for block in blocks:
        weighted, total = (block.rows_of(block.parts(x)[part]) for x in sinks)
        shifted = shifted or not _add(block, part, weighted, total)
        if shifted:  # and so are the blocks that follow, at once
            _weigh_shifted(block, part, weighted, total)
        _write(block, part, weighted, total, output)


def _write(block: Block, part: int, weighted: Tensor, total: Tensor, output: Tensor) -> None:
    """Write a part's attention, `weighted / total`, into output `[B, Hq, m, d_v]`, whatever its strides."""
    rows = slice(block.first, block.last)
    if block.parts_in_all == 1:
        shape = *output.shape[:2], block.size, -1
        torch.div(weighted.view(shape), total.view(shape), out=output[:, :, rows])
        return
    group = block.shared.group
    for place in range(len(weighted)):
        row, head = divmod(part * block.at_once + place, output.shape[1] // group)
        own = (x[place].view(group, block.size, -1) for x in (weighted, total))
        torch.div(*own, out=output[row, head * group : (head + 1) * group, rows])


def _add(block: Block, part: int, weighted: Tensor, total: Tensor) -> bool:
    """Add a part to the first tokens' weighted values `[heads, rows, d_v]` and total of weights `[heads, rows, 1]`.

    False, with weighted as it was, where a total is not safe.
    """
    weights = block.scores(part)
    total += block.weigh_window(part)
    low, high = (float(x) for x in total.aminmax())
    is_safe = SAFE_SUMS[0] <= low and high <= SAFE_SUMS[1]
    if is_safe:
        _weigh(block, weights, block.values(part), weighted)
    return is_safe


def _weigh_shifted(block: Block, part: int, weighted: Tensor, total: Tensor) -> None:
    """Write what `_add` adds up to, with the largest score of each row taken off all of them."""
    weights = block.scores(part, whole=True)
    highest = torch.stack([scores.amax(-1, keepdim=True) for scores in weights]).amax(0)
    learned = None if block.shared.sink_logit is None else block.sink_logit(part)
    if learned is not None:
        highest = torch.maximum(highest, learned.to(highest.dtype))
    for scores in weights:
        scores.sub_(highest)
    total.copy_(_exponentiate(block, part, weights[1:]))
    if learned is not None:
        total += (learned - highest).exp2()
    _weigh(block, weights, block.values(part, whole=True), weighted.zero_())


def _exponentiate(block: Block, part: int, others: list[Tensor]) -> Tensor:
    """Turn the scores of the window, and the others, into weights `2^score`; their sums, `[heads, rows, 1]`."""
    total = block.weigh_window(part)
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
