"""Attention to a list of bands, exactly: a block of queries and a tile of keys at a time, joined by log-sum-exp.

Time O(n²), working memory flat in n. What all queries of a block attend to, nearly everything of a long text, goes to a
fused kernel of torch without any mask, and the edges of a band, as wide as a block, to the same one as triangles; what
is left for masked matrix products are a band's beginnings.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import torch
from torch import Tensor

from ..config import AttentionLayer
from ..positions import Places
from ..prefill.blockwise import queries_of_block
from ..prefill.rolling_window import new_output
from .band import Band
from .cache import ChunkLayer, FullLayer
from .encoding import encoded, log_scaled
from .parts import FUSED, Joined, Part, Tile, attend_products, is_fused
from .products import Piece, are_faster, attend_pieces, queries_at_once, refuse_edges, takes_products

QUERY_BLOCK, GPU_QUERY_BLOCK = 512, 2048
KEY_TILE, GPU_KEY_TILE = 2048, 16_384
"""Queries and keys at once. Keys are encoded anew for each block of queries, so that they take no memory of all."""
SCORE_BYTES, GPU_SCORE_BYTES = 2**25, 2**29
"""Scores of matrix products at once, in all heads."""


def attend_bands(query: Tensor, key: Tensor, value: Tensor, layer: AttentionLayer, past: FullLayer | None) -> Tensor:
    """`lambda_attention` by the bands of the layer's configuration. Shapes as there; rows of `past` stand at one
    position. Raises SharedError, with the cache as it was, where the named backend cannot attend.
    """
    if layer.config.backend == "edges":
        refuse_edges(query, value, layer)
    start = 0
    if past is not None:
        start = past.held
        key, value = past.extend(key, value)
    output = new_output(query, value)
    if takes_products(query, layer) and are_faster(query, value, layer):
        _attend_by_products(query, start, key, value, layer, output)
        return output
    size = GPU_QUERY_BLOCK if query.is_cuda else QUERY_BLOCK
    for part in _parts(start, query.shape[-2], size, layer.config.chunk):
        block = _Block(query[:, :, part], start + part.start, key, value, layer)
        output[:, :, part] = block.attend().reshape(output[:, :, part].shape)
    return output


def attend_chunks(query: Tensor, key: Tensor, value: Tensor, layer: AttentionLayer, past: ChunkLayer | None) -> Tensor:
    """`lambda_attention` by a ChunksConfig: each chunk is a text of its own. Shapes as there."""
    output, start = new_output(query, value), 0 if past is None else past.position
    for part in _parts(start, query.shape[-2], layer.config.chunk, layer.config.chunk):
        output[:, :, part] = attend_bands(query[:, :, part], key[:, :, part], value[:, :, part], layer, past)
    return output


def _attend_by_products(
    query: Tensor, start: int, key: Tensor, value: Tensor, layer: AttentionLayer, output: Tensor
) -> None:
    """Write the attention of queries from position `start` on, piece by piece, the longest first."""
    (rows, key_heads), count, group = key.shape[:2], query.shape[-2], query.shape[1] // key.shape[1]
    size, pieces = queries_of_block(group, query.dtype), []
    at_once = queries_at_once(count, rows * key_heads, size)
    for part in reversed(list(_parts(0, count, at_once, None))):
        cuts = _parts(start + part.start, part.stop - part.start, size, layer.config.chunk)
        blocks = tuple((cut.start, cut.stop) for cut in cuts)
        for row, head in product(range(rows), range(key_heads)):
            heads = slice(group * head, group * (head + 1))
            own = query[row, heads, part], start + part.start, key[row, head], value[row, head]
            pieces.append(Piece(*own, layer.of_heads(heads, query.device), output[row, heads, part], blocks))
    for piece, (first, last) in attend_pieces(pieces):
        keys_values = piece.key[None, None], piece.value[None, None]
        block = _Block(piece.query[None, :, first:last], piece.start + first, *keys_values, piece.layer)
        piece.output[:, first:last] = block.attend().view(group, last - first, -1)


def _parts(start: int, count: int, size: int, chunk: int | None) -> Iterator[slice]:
    """Blocks of the queries start .. start + count - 1, counted from the first one; none reaches into another chunk."""
    first = 0
    while first < count:
        end = min(first + size, count)
        if chunk is not None:
            end = min(end, first + chunk - (start + first) % chunk)
        yield slice(first, end)
        first = end


@dataclass(frozen=True)
class Zone:
    """The keys first .. end - 1, and how a block attends to them: every query to "all"; each to one more than the query
    before it, the last to all ("growing"), or to one fewer, the last to none ("shrinking"); or as the band has it
    ("edge").
    """

    first: int
    end: int
    kind: str


@lru_cache(maxsize=4096)
def zones(band: Band, start: int, count: int) -> tuple[Zone, ...]:
    """The keys of a band that the queries start .. start + count - 1 attend to, the nearest first."""
    places = torch.arange(start, start + count)
    first, end = band.first(places), band.end(places)
    first_of_all, end_of_all = int(first[-1]), int(end[0])
    if first_of_all >= end_of_all:  # no key is every query's
        found = [Zone(int(first[0]), int(end[-1]), "edge")]
    else:
        newest = Zone(end_of_all, int(end[-1]), "edge")
        if _slides(end):
            end_of_all -= 1
            newest = Zone(end_of_all, int(end[-1]), "growing")
        oldest = Zone(int(first[0]), first_of_all, "shrinking" if _slides(first) else "edge")
        found = [newest, Zone(first_of_all, end_of_all, "all"), oldest]
    return tuple(zone for zone in found if zone.first < zone.end)


def _slides(bound: Tensor) -> bool:
    """Whether each query's bound is one key farther than that of the query before."""
    return len(bound) > 1 and bool((bound.diff() == 1).all())


class _Block:
    """Consecutive queries `[B, Hq, m, d]`, as projected, from position `start` on, and all keys and values so far."""

    def __init__(self, query: Tensor, start: int, key: Tensor, value: Tensor, layer: AttentionLayer) -> None:
        self.query, self.start, self.key, self.value, self.layer = query, start, key, value, layer
        self.device, self.size = query.device, query.shape[-2]
        self.places = torch.arange(start, start + self.size, device=self.device)
        self.tile = GPU_KEY_TILE if query.is_cuda else KEY_TILE
        self.fused = is_fused(query, value, layer)
        if layer.config.log_scale:
            self.query = log_scaled(query, self.places, layer.config.log_scale)

    def attend(self) -> Tensor:
        """`[B, Hkv, g * m, d_v]`, in at least float32."""
        joined = Joined(self.layer.fuses(self.query))
        for band in self.layer.config.bands:
            found = zones(band, self.start, self.size)
            if not found:
                continue
            query = encoded(self.query, self.start, band.query_at, self.layer, band.key_at is None)
            offset = None if band.offset is None else self._offset(band.offset)
            for zone in found:
                for output, log_sum in self._parts(band, query, zone):
                    joined.add(output, log_sum if offset is None else log_sum - offset)
        return joined.output(self.layer)

    def _offset(self, offset: Places) -> Tensor:
        """What is taken off each row's scores, `[g * m, 1]`."""
        group = self.query.shape[1] // self.key.shape[1]
        return offset(self.places).to(torch.promote_types(self.query.dtype, torch.float32)).repeat(group)[:, None]

    def _parts(self, band: Band, query: Tensor, zone: Zone) -> Iterator[Part]:
        """The attention of the encoded query to a zone's keys, tile by tile."""
        fused = self.fused and zone.kind in FUSED
        for keys in self._tiles(zone, fused):
            tile = Tile(query, self._key(band, keys), self.value[:, :, keys], self.places, self._places(keys))
            if fused:
                yield FUSED[zone.kind](tile, self.layer.scale)
            else:
                yield attend_products(tile, band, self.layer, masked=zone.kind != "all")

    def _tiles(self, zone: Zone, fused: bool) -> Iterator[slice]:
        """The keys of a zone, as many at once as there is to be memory for; cut at the same places in all blocks."""
        if fused and zone.kind != "all":
            yield slice(zone.first, zone.end)
            return
        size = self.tile if fused else min(self.tile, self._columns())
        for first in range(zone.first // size * size, zone.end, size):
            yield slice(max(first, zone.first), min(first + size, zone.end))

    def _columns(self) -> int:
        """A power of two, at least 64: columns of scores that take as much memory as they may."""
        total = GPU_SCORE_BYTES if self.query.is_cuda else SCORE_BYTES
        columns = total // (4 * self.query.shape[:3].numel())
        return 1 << max(6, columns.bit_length() - 1)

    def _places(self, keys: slice) -> Tensor:
        return torch.arange(keys.start, keys.stop, device=self.device)

    def _key(self, band: Band, keys: slice) -> Tensor:
        key = self.key[:, :, keys]
        return key if band.key_at is None else encoded(key, keys.start, band.key_at, self.layer)
