"""The logits that queries anywhere in a text give to a block of its keys: what enters the softmax, in float32.

Shapes as in `models/lambda_attention.py`, of one text: Hq query heads, Hkv key heads, m queries, k keys, d head_dim.
"""

import torch
from einops import rearrange
from torch import Tensor

from ..attention.config import AttentionLayer
from ..attention.positions import RotaryPositions


class Queries:
    """Some queries of one text, encoded once.

    positions: int64 `[m]`, ascending. A logit of ALiBi is `q . k * scale - slope * distance`; some models add the same
    number to all logits of a query on top, which the softmax does not feel.
    """

    def __init__(self, query: Tensor, positions: Tensor, layer: AttentionLayer) -> None:
        """query: `[Hq, m, d]`, before any position encoding."""
        encoding, config = layer.positions, layer.config
        self.layer, self.positions = layer, positions
        query = query.float() * layer.scale
        self.near, self.far = self._encode(query, positions), None
        if config.limit_distance is not None:
            self.far = encoding.at_distance(query, config.limit_distance)
        elif config.latest_position is not None:
            self.far = self._encode(query, positions.clamp(max=config.latest_position))

    def _encode(self, query: Tensor, positions: Tensor) -> Tensor:
        encoding = self.layer.positions
        return encoding.rotate(query, encoding.table(positions)) if isinstance(encoding, RotaryPositions) else query

    def reaching(self, start: int, stop: int) -> slice:
        """The queries that attend to any of the keys start .. stop - 1."""
        config = self.layer.config
        first = int(torch.searchsorted(self.positions, start))
        if start < config.global_branch or config.triangle_offset:
            return slice(first, len(self.positions))
        farthest = stop - 1 + config.local_branch
        return slice(first, max(first, int(torch.searchsorted(self.positions, farthest))))

    def logits(self, part: slice, key: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Logits of the queries in `part` and the keys start, start + 1, ..., `[Hkv, k, d]` as projected.

        Returns logits `[Hq, m, k]`, -inf where a key is not attended, and distances int64 `[m, k]`.
        """
        config, encoding, key = self.layer.config, self.layer.positions, key.float()
        places = torch.arange(start, start + key.shape[1], device=key.device)
        distance = self.positions[part, None] - places
        kept = (places < config.global_branch) | (distance < config.local_branch)
        moved, felt = self._felt(self.positions[part], distance, kept)
        encoded = encoding.at(key, start)
        logits = _score(self.near[:, part], encoded)
        if encoding.slopes is not None:
            logits -= encoding.slopes_on(key.device)[:, None, None] * felt
        elif moved.any():
            far_key = encoded if config.limit_distance is None else key
            logits = torch.where(moved, _score(self.far[:, part], far_key), logits)
        if config.triangle_offset:
            middle = (self.positions[part] + 1 - config.local_branch - config.global_branch).clamp(min=1)
            logits -= torch.where(kept, 0.0, config.triangle_offset * middle.double().log()[:, None]).float()
            kept = torch.ones_like(kept)
        return logits.masked_fill_(~kept | (distance < 0), float("-inf")), distance

    def _felt(self, positions: Tensor, distance: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """The keys felt elsewhere than they are, bool `[m, k]`, and the distances that all are felt at, int64."""
        limit, latest = self.layer.config.limit_distance, self.layer.config.latest_position
        if limit is not None:
            moved = (distance >= limit) | ~kept
            return moved, torch.where(moved, limit, distance)
        if latest is not None:
            moved = distance >= self.layer.config.local_branch
            return moved, distance - moved * (positions - latest).clamp(min=0)[:, None]
        return torch.zeros_like(kept), distance


def _score(query: Tensor, key: Tensor) -> Tensor:
    """`[Hq, m, d]` and `[Hkv, k, d]` to `[Hq, m, k]`; query heads that share a key head lie side by side."""
    rows = rearrange(query, "(h g) m d -> h (g m) d", h=key.shape[0])
    return rearrange(rows @ key.mT, "h (g m) k -> (h g) m k", m=query.shape[1])
