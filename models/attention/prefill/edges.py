"""Λ-attention on the CPU by torch's fused attention, with the window cut at its edges, so that nothing is masked.

The queries p .. p + b - 1 have three kinds of keys: those from p on, of which each has one more than the query before
it, a causal square; those that all of them have; and the oldest ones, of which each has one fewer, a causal square too
when it is read from behind. All blocks of a segment are one call of each kind, of some heads at once, and so few, large
parallel regions: a thread that has to wait for its core holds up the others at few places.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import AttentionLayer
from .encoding import encode
from .first_tokens import Part, join_first_tokens
from .fused_cpu import attend_fused_cpu, has_fused_cpu
from .segment import Segment

QUERY_BLOCK = 2048
"""Queries of a block at most: more make its square a larger share of the window, fewer more to join."""
JOINED_AT_ONCE = 1024
"""Queries whose parts are joined at once: tensors of that many stay in the processor's cache."""
PART_BYTES = 2**25
"""Queries of so many bytes are attended at once, one key head's at least: their parts of the window are new memory,
which the system is slow to give.
"""


def attend_edges(segment: Segment, layer: AttentionLayer, output: Tensor) -> None:
    """Write the attention of the segment's queries into output `[B, Hq, m, d_v]`."""
    if not output.numel():  # a batch of no rows
        return
    key_heads, count = segment.window_key.shape[1], segment.query.shape[-2]
    group = segment.query.shape[1] // key_heads
    at_once = max(1, PART_BYTES // segment.query[:, :group].nbytes)
    for first in range(0, key_heads, at_once):
        heads = slice(first, min(first + at_once, key_heads))
        query_heads = slice(group * heads.start, group * heads.stop)
        of_heads = layer.of_heads(query_heads, output.device)
        _attend_heads(segment.part(slice(None), heads, slice(0, count)), of_heads, output[:, query_heads])


def _attend_heads(segment: Segment, layer: AttentionLayer, output: Tensor) -> None:
    query = encode(segment.query, segment.start, layer)
    for first, size, count in _runs(segment.start, query.shape[-2], layer.config.local_branch):
        run = slice(first, first + size * count)
        parts = _window(query[:, :, run], segment, first, size, layer)
        for begin in range(first, run.stop, JOINED_AT_ONCE):
            rows = slice(begin, min(begin + JOINED_AT_ONCE, run.stop))
            window = [tuple(x[:, :, rows.start - first : rows.stop - first] for x in part) for part in parts]
            here = replace(segment, query=segment.query[:, :, rows], start=segment.start + begin)
            join_first_tokens(here, layer, query[:, :, rows], window, output[:, :, rows])


def lacks_edges(layer: AttentionLayer, query: Tensor, value: Tensor) -> str | None:
    """What it lacks for these tensors, as "edges needs ..." goes on; None where it lacks nothing."""
    if query.device.type != "cpu" or not has_fused_cpu():
        return "the CPU"
    if layer.config.caps_window:
        return "a limit that is not inside the window"
    if layer.positions.slopes is not None:
        return "rotary positions, not ALiBi"
    if layer.soft_cap is not None:
        return "scores that are not capped softly"
    if query.shape[-1] != value.shape[-1]:
        return f"keys and values of one width, and these have {query.shape[-1]} and {value.shape[-1]}"
    return None


def _runs(start: int, count: int, local_branch: int) -> list[tuple[int, int, int]]:
    """Blocks of the queries from position `start` on: the first one's place, their size, and how many are alike.

    No block reaches beyond position L where it begins before: its queries have no oldest keys to lose.
    """
    size, runs, first = min(QUERY_BLOCK, local_branch), [], 0
    while first < count:
        left = count - first
        if start + first < local_branch:
            block = min(size, left, local_branch - start - first)
            runs.append((first, block, 1))
        else:
            block = min(size, left)
            runs.append((first, block, left // block))
        first += runs[-1][1] * runs[-1][2]
    return runs


def _window(query: Tensor, segment: Segment, first: int, size: int, layer: AttentionLayer) -> list[Part]:
    """The parts of the window of a run of blocks. query: encoded, `[B, Hq, rows, d]`."""
    position = segment.start + first
    keys_values = segment.window_key, segment.window_value
    rows = zip(query, *keys_values)  # of the batch: blocks are views of one alone
    found = [_window_of_row(*row, position, segment.window_start, size, layer) for row in rows]
    return [tuple(_batch(x) for x in zip(*parts)) for parts in zip(*found)]


def _batch(rows: tuple[Tensor, ...]) -> Tensor:
    return rows[0].unsqueeze(0) if len(rows) == 1 else torch.stack(rows)


def _window_of_row(
    query: Tensor, key: Tensor, value: Tensor, position: int, start: int, size: int, layer: AttentionLayer
) -> list[Part]:
    """The same of query `[Hq, rows, d]`, key and value `[Hkv, n, .]`; position, start: of the first query and key."""
    blocks = query.shape[1] // size
    own = position - start
    oldest = max(0, position - layer.config.local_branch + 1) - start
    losing = position >= layer.config.local_branch
    shared = oldest + (size - 1 if losing else 0)
    queries = query.unflatten(1, (blocks, size)).transpose(0, 1)
    parts = [_attend(queries, *(_blocks(x, own, size, size, blocks) for x in (key, value)), layer, causal=True)]
    if shared < own:
        common = (_blocks(x, shared, own - shared, size, blocks) for x in (key, value))
        parts.append(_attend(queries, *common, layer, causal=False))
    if losing and size > 1:
        lost = (_blocks(x, oldest, size - 1, size, blocks) for x in (key, value))
        parts.append(_attend_from_behind(queries, *lost, layer))
    return [_whole(part) for part in parts]


def _blocks(x: Tensor, first: int, columns: int, step: int, blocks: int) -> Tensor:
    """Keys or values `[H, n, d]`, `columns` of them for each block, a view `[blocks, H, columns, d]`."""
    heads, _, width = x.shape
    x = x[:, first:]
    of_head, of_row, of_feature = x.stride()
    return x.as_strided((blocks, heads, columns, width), (step * of_row, of_head, of_row, of_feature))


def _attend_from_behind(query: Tensor, key: Tensor, value: Tensor, layer: AttentionLayer) -> Part:
    """Each query to the keys from its own place on, one fewer than queries; the last one has none."""
    output, log_sum = _attend(query[..., :-1, :].flip(-2), key.flip(-2), value.flip(-2), layer, causal=True)
    return F.pad(output.flip(-2), (0, 0, 0, 1)), F.pad(log_sum.flip(-2), (0, 0, 0, 1), value=float("-inf"))


def _attend(query: Tensor, key: Tensor, value: Tensor, layer: AttentionLayer, causal: bool) -> Part:
    """One call for all blocks, each `[blocks, H, ., d]`."""
    output, log_sum = attend_fused_cpu(query, key, value, layer.scale, causal)
    return output, log_sum.unsqueeze(-1)


def _whole(part: Part) -> Part:
    """A part of blocks, `[blocks, Hq, size, .]`, as one of their queries, `[Hq, rows, .]`."""
    return tuple(x.transpose(0, 1).flatten(1, 2) for x in part)
