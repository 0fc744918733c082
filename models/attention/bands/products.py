"""Bands by matrix products on the CPU, where those are faster than torch's fused attention.

What `prefill/blockwise.py` is to a window: a weight is `2^score` as it is, and sums divide the result. A thread takes
consecutive queries of the heads that share a key head, and goes over all keys once, tile by tile, so that a tile's keys
are encoded once for many blocks of queries, and all scores stay in its cache. A block whose sums leave the range in
which no weight that counts is lost is attended to anew, by `attend.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from ...errors import SharedError
from ..config import AttentionLayer, LambdaConfig
from ..prefill.blockwise import SAFE_SUMS
from ..prefill.choice import SHORTEST_MEASURED, faster_on_cpu
from ..prefill.edges import lacks_edges
from ..prefill.segment_scores import BITS_PER_NAT
from ..prefill.window_weights import weigh_columns
from ..workers import run_shared
from .band import Band
from .encoding import encoded, log_scaled

KEY_TILE = 1024
QUERIES_AT_ONCE = 2048
"""Queries of a thread at most, for which a tile of keys is encoded once."""
PIECES_PER_THREAD = 4
DTYPES = torch.float32, torch.bfloat16
WINDOW_MEASURED = LambdaConfig(2048, 0, None)
"""The window whose attention is measured to tell which of the two is faster."""
CANDIDATES = "blockwise", "edges"
PRODUCTS = "blockwise", "onednn"
"""Backends that are matrix products; those of this file are `mm` either way."""


def takes_products(query: Tensor, layer: AttentionLayer) -> bool:
    """Whether the bands' attention of these queries is to be by matrix products of this file."""
    config, count = layer.config, query.shape[-2]
    if query.device.type != "cpu" or query.dtype not in DTYPES or count == 1 or is_in_torch_dispatch_mode():
        return False
    if layer.soft_cap is not None or layer.positions.slopes is not None or torch.compiler.is_compiling():
        return False
    if any(band.offset is not None for band in config.bands):
        return False
    return config.backend in PRODUCTS or (config.backend == "auto" and count >= SHORTEST_MEASURED)


def are_faster(query: Tensor, value: Tensor, layer: AttentionLayer) -> bool:
    """Whether products are faster than fused attention for such heads, as measured, or named by the configuration."""
    window = replace(layer, config=WINDOW_MEASURED)
    if layer.config.backend != "auto" or lacks_edges(window, query, value) is not None:
        return True
    return faster_on_cpu(CANDIDATES, window, query, value).backend == "blockwise"


def refuse_edges(query: Tensor, value: Tensor, layer: AttentionLayer) -> None:
    """Raise SharedError where torch's fused attention on the CPU cannot attend."""
    lacking = lacks_edges(replace(layer, config=WINDOW_MEASURED), query, value)
    if lacking is not None:
        raise SharedError(f"--backend edges needs {lacking}: take blockwise, or leave it out")


@dataclass(frozen=True)
class Span:
    """The keys first .. end - 1, of which query q of a block attends to oldest + q .. newest + q - 1."""

    first: int
    end: int
    oldest: int
    newest: int


@lru_cache(maxsize=4096)
def span_of(band: Band, start: int, count: int) -> Span | None:
    """The keys of a band that the queries start .. start + count - 1 attend to.

    None where they are no such span: where a bound goes along with the queries only some of the way.
    """
    places, query = torch.arange(start, start + count), torch.arange(count)
    first, end = band.first(places), band.end(places)
    low, high = int(first[0]), int(end[-1])
    oldest = low - count if first[-1] == low else int(first[-1]) - count + 1
    newest = high if end[0] == high else high - count + 1
    span_first, span_end = (oldest + query).clamp(min=low), (newest + query).clamp(max=high)
    is_empty = (first >= end) & (span_first >= span_end)
    if bool((is_empty | (first == span_first) & (end == span_end)).all()):
        return Span(low, max(low, high), oldest, newest)
    return None


@dataclass
class _Sums:
    """A block's queries first .. last - 1 of a piece, and what is summed up for them, for each row of `[g * size]`."""

    first: int
    last: int
    spans: tuple[Span, ...]
    weighted: Tensor
    total: Tensor

    @property
    def size(self) -> int:
        return self.last - self.first


@dataclass(frozen=True)
class Piece:
    """Consecutive queries of the heads that share a key head, `[g, m, d]` as projected; from position `start` on.

    key `[k, d]`, as projected, and value `[k, d_v]`: all of them so far. output: `[g, m, d_v]`.
    blocks: (first, last) of each block of queries, counted from the piece's first.
    """

    query: Tensor
    start: int
    key: Tensor
    value: Tensor
    layer: AttentionLayer
    output: Tensor
    blocks: tuple[tuple[int, int], ...]


def attend_pieces(pieces: list[Piece]) -> list[tuple[Piece, tuple[int, int]]]:
    """Write the attention of all pieces into their outputs; returns the blocks that it could not be written for."""
    left: list[tuple[Piece, tuple[int, int]]] = []
    run_shared(_attend_piece, [(piece, left) for piece in pieces])
    return left


def queries_at_once(count: int, parts: int, size: int) -> int:
    """Queries of a piece, a multiple of a block's `size`, where each query has `parts` pieces for its heads."""
    per_thread = -(-count * parts // (PIECES_PER_THREAD * torch.get_num_threads()))
    return size * max(1, min(QUERIES_AT_ONCE, per_thread) // size)


def _attend_piece(piece: Piece, left: list[tuple[Piece, tuple[int, int]]]) -> None:
    bands, blocks = piece.layer.config.bands, []
    for first, last in piece.blocks:
        spans = tuple(span_of(band, piece.start + first, last - first) for band in bands)
        if None in spans:
            left.append((piece, (first, last)))
        else:
            blocks.append(_new_sums(piece, first, last, spans))
    query = _log_scaled(piece)
    for place, band in enumerate(bands):
        _add_band(piece, query, band, [(block, block.spans[place]) for block in blocks])
    for block in blocks:
        if not _write(piece, block):
            left.append((piece, (block.first, block.last)))


def _new_sums(piece: Piece, first: int, last: int, spans: tuple[Span, ...]) -> _Sums:
    rows = piece.query.shape[0] * (last - first)
    widths = piece.value.shape[-1], 1
    weighted, total = (piece.query.new_zeros(rows, width, dtype=torch.float32) for width in widths)
    if piece.layer.sink_logit is not None:
        total += (piece.layer.sink_logit.float() * BITS_PER_NAT).exp2().repeat_interleave(last - first)[:, None]
    return _Sums(first, last, spans, weighted, total)


def _log_scaled(piece: Piece) -> Tensor:
    """The piece's queries, scaled where the method scales those far on."""
    length = piece.layer.config.log_scale
    if not length:
        return piece.query
    places = torch.arange(piece.start, piece.start + piece.query.shape[-2], device=piece.query.device)
    return log_scaled(piece.query, places, length)


def _add_band(piece: Piece, query: Tensor, band: Band, blocks: list[tuple[_Sums, Span]]) -> None:
    """Add the weights and weighted values of a band's keys to the blocks that attend to any.

    query: the piece's, as `_log_scaled` has them.
    """
    blocks = [(block, span) for block, span in blocks if span.first < span.end]
    if not blocks:
        return
    scale = piece.layer.scale * BITS_PER_NAT
    query = encoded(query, piece.start, band.query_at, piece.layer, band.key_at is None, scale)
    rows = [query[:, block.first : block.last].flatten(0, 1) for block, _ in blocks]
    memory = query.new_empty(max(map(len, rows)) * KEY_TILE)
    for keys in _tiles(blocks):
        key, value = piece.key[keys], piece.value[keys]
        if band.key_at is not None:
            key = encoded(key, keys.start, band.key_at, piece.layer)
        for (block, span), block_rows in zip(blocks, rows):
            first, end = max(span.first, keys.start), min(span.end, keys.stop)
            if first < end:
                columns = slice(first - keys.start, end - keys.start)
                scores = memory[: len(block_rows) * (end - first)].view(-1, end - first)
                torch.mm(block_rows, key[columns].mT, out=scores)
                block.total += weigh_columns(scores, block.size, span.oldest - first, span.newest - first)
                block.weighted += scores @ value[columns]


def _tiles(blocks: list[tuple[_Sums, Span]]) -> Iterator[slice]:
    """All keys that some of the blocks attend to; cut at the same places in all pieces, as tables of RoPE are."""
    first, end = min(span.first for _, span in blocks), max(span.end for _, span in blocks)
    for begin in range(first // KEY_TILE * KEY_TILE, end, KEY_TILE):
        yield slice(max(begin, first), min(begin + KEY_TILE, end))


def _write(piece: Piece, block: _Sums) -> bool:
    """Write a block's attention into the output, if its sums are safe."""
    low, high = (float(x) for x in block.total.aminmax())
    if not (SAFE_SUMS[0] <= low and high <= SAFE_SUMS[1]):
        return False
    shape = len(piece.query), block.size, -1
    output = piece.output[:, block.first : block.last]
    torch.div(block.weighted.view(shape), block.total.view(shape), out=output)
    return True
