"""The logits that queries anywhere in a text give to a block of its keys: what enters the softmax, in float32.

Shapes as in `models/lambda_attention.py`, of one text: Hq query heads, Hkv key heads, m queries, k keys, d head_dim.
"""

import torch
from einops import rearrange
from torch import Tensor

from ..attention.bands.band import Band
from ..attention.bands.encoding import log_scaled
from ..attention.bands.methods import none
from ..attention.config import AttentionLayer
from ..attention.positions import Places, RotaryPositions


class Queries:
    """Some queries of one text, encoded once for each band of the method.

    positions: int64 `[m]`, ascending. A logit of ALiBi is `q . k * scale - slope * distance`; some models add the same
    number to all logits of a query on top, which the softmax does not feel.
    """

    def __init__(self, query: Tensor, positions: Tensor, layer: AttentionLayer) -> None:
        """query: `[Hq, m, d]`, before any position encoding."""
        self.layer, self.positions, self.heads = layer, positions, query.shape[0]
        query = query.float() * layer.scale
        if layer.config.log_scale:
            query = log_scaled(query, positions, layer.config.log_scale)
        self.bands = [(band, self._encode(query, positions, band.query_at)) for band in layer.config.bands]

    def _encode(self, x: Tensor, positions: Tensor, places: Places) -> Tensor:
        encoding = self.layer.positions
        return encoding.rotate(x, encoding.table(places(positions))) if isinstance(encoding, RotaryPositions) else x

    def reaching(self, start: int, stop: int) -> slice:
        """The queries from the first to the last that attend to any of the keys start .. stop - 1."""
        if self.layer.config.attends_all or start < self.layer.config.global_branch:
            return slice(int(torch.searchsorted(self.positions, start)), len(self.positions))
        reached = torch.zeros_like(self.positions, dtype=torch.bool)
        for band, _ in self.bands:
            reached |= (band.first(self.positions) < stop) & (band.end(self.positions) > start)
        places = reached.nonzero()
        return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)

    def logits(self, part: slice, key: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Logits of the queries in `part` and the keys start, start + 1, ..., `[Hkv, k, d]` as projected.

        Returns logits `[Hq, m, k]`, -inf where a key is not attended, and distances int64 `[m, k]`.
        """
        key, queries = key.float(), self.positions[part]
        places = torch.arange(start, start + key.shape[1], device=key.device)
        logits = key.new_full((self.heads, len(queries), len(places)), float("-inf"))
        for band, encoded in self.bands:
            held = band.holds(queries, places)
            if held.any():
                logits = torch.where(held, self._logits_of(band, encoded[:, part], queries, key, places), logits)
        return logits, queries[:, None] - places

    def _logits_of(self, band: Band, query: Tensor, queries: Tensor, key: Tensor, places: Tensor) -> Tensor:
        """As if all keys were in this band. query: encoded. queries, places: the positions of queries and keys."""
        logits, slopes = _score(query, self._encode(key, places, band.key_at or none)), self.layer.positions.slopes
        if slopes is not None:
            logits -= self.layer.positions.slopes_on(key.device)[:, None, None] * band.distance(queries, places)
        return logits if band.offset is None else logits - band.offset(queries)[:, None].float()


def _score(query: Tensor, key: Tensor) -> Tensor:
    """`[Hq, m, d]` and `[Hkv, k, d]` to `[Hq, m, k]`; query heads that share a key head lie side by side."""
    rows = rearrange(query, "(h g) m d -> h (g m) d", h=key.shape[0])
    return rearrange(rows @ key.mT, "h (g m) k -> (h g) m k", m=query.shape[1])
