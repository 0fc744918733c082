"""A band: keys that queries feel alike, in terms of their positions in the text."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..positions import Places


def itself(position: Tensor) -> Tensor:
    return position


@dataclass(frozen=True)
class Band:
    """The keys first(i) .. end(i) - 1 of the query at position i, none where end(i) <= first(i).

    All are functions of positions, int64 of any shape, element by element; the same object is the same function, whose
    tables of RoPE all layers share.
    first, end: neither falls as i grows. query_at, key_at: where RoPE encodes query and key, positions or fractions of
    them; None leaves keys as projected, which is position 0. offset: taken off the scores of query i, in nats.
    """

    first: Places
    end: Places
    query_at: Places = itself
    key_at: Places | None = itself
    offset: Places | None = None

    def distance(self, query: Tensor, key: Tensor) -> Tensor:
        """The distances `[queries, keys]` that keys are felt at, as ALiBi has them. query, key: positions, int64."""
        places = torch.zeros_like(key) if self.key_at is None else self.key_at(key)
        return self.query_at(query)[:, None] - places

    def holds(self, query: Tensor, key: Tensor) -> Tensor:
        """Whether keys are in the band, bool `[queries, keys]`. query, key: positions, int64."""
        return (self.first(query)[:, None] <= key) & (key < self.end(query)[:, None])


Bands = tuple[Band, ...]
"""A method: every key is in at most one of them, and each query itself in the first."""
