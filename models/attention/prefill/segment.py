"""A backend's work at once: consecutive queries and all the keys that they may reach."""

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

KeysValues = tuple[Tensor, Tensor]
"""`[B, Hkv, n, d]` and `[B, Hkv, n, d_v]`."""


@dataclass(frozen=True)
class Segment:
    """m consecutive queries and every key they may attend to. Keys are `[B, Hkv, ., d]`, values `[B, Hkv, ., d_v]`.

    query: `[B, Hq, m, d]`, not encoded. start: position of its first row. window_start: that of the first window key.
    window_key: encoded at their positions. window_raw: the same, not encoded, where the limit falls inside the window.
    window_value: their values. sink_key (not encoded), sink_value: the first tokens of the sequence.
    """

    query: Tensor
    start: int
    window_start: int
    window_key: Tensor
    window_raw: Tensor | None
    window_value: Tensor
    sink_key: Tensor
    sink_value: Tensor

    def part(self, batch: slice, key_heads: slice, queries: slice) -> "Segment":
        """These queries of these rows, of the query heads that share these key heads, as a segment of views."""
        group = self.query.shape[1] // self.window_key.shape[1]
        query = self.query[batch, group * key_heads.start : group * key_heads.stop, queries]
        names = "window_key", "window_raw", "window_value", "sink_key", "sink_value"
        keys_values = {name: _of_heads(getattr(self, name), batch, key_heads) for name in names}
        return replace(self, query=query, start=self.start + queries.start, **keys_values)


def _of_heads(x: Tensor | None, batch: slice, heads: slice) -> Tensor | None:
    return None if x is None else x[batch, heads]


@lru_cache(maxsize=8)
def distances(size: int, count: int, offset: int, device: torch.device) -> Tensor:
    """int64 `[size, count]`: `offset + row - column`."""
    return offset + torch.arange(size, device=device)[:, None] - torch.arange(count, device=device)
