"""Decoding: one query per row against the cache, `[window | first | middle]` columns under one softmax.

The rows of a batch may stand at different positions (left-padded prompts); keys rest in the ring and are never copied.
What follows from the positions alone is made once per token for all layers: on a GPU each copy from the host waits.
"""

from functools import cached_property, lru_cache

import torch
from torch import Tensor

from models.cache import LambdaLayer
from models.lambda_config import AttentionLayer
from models.positions import RotaryPositions, Table
from models.sinks import score_sinks

HOST_BLOCK = 1024
"""Keys in host memory are searched for the best ones so many at a time: what is made of them stays in the cache."""


def attend_one(query: Tensor, key: Tensor, value: Tensor, layer: AttentionLayer, past: LambdaLayer) -> Tensor:
    """`lambda_attention` for n = 1. query `[B, Hq, 1, d]`, key `[B, Hkv, 1, d]`, value `[B, Hkv, 1, d_v]`."""
    past.begin(key, value)
    stored = key if layer.config.caps_window else _encode(key, layer, past.seen)
    past.finish(stored, value, 1)
    return attend_newest(query, layer, past)


def attend_newest(query: Tensor, layer: AttentionLayer, past: LambdaLayer) -> Tensor:
    """Attention of each row's newest token, already in the cache. query `[B, Hq, 1, d]`; returns `[B, Hq, 1, d_v]`."""
    newest = _Newest(query, layer, past)
    columns = [newest.window()]
    if newest.reached_sinks:
        columns.append(newest.sinks())
    if layer.config.triangle_offset:
        columns.append(newest.middle())
    elif layer.config.selects_top_k(layer.layer_idx):
        columns.append(newest.best())
    columns = [(scores, values) for scores, values in columns if scores.shape[-1]]
    weights = torch.cat([scores for scores, _ in columns], -1).float().softmax(-1).to(newest.near.dtype)
    parts = weights.split([scores.shape[-1] for scores, _ in columns], -1)
    output = sum(_weigh(part, values) for part, (_, values) in zip(parts, columns))
    return output.flatten(1, 2).unsqueeze(2).to(query.dtype)


def _weigh(weights: Tensor, values: Tensor) -> Tensor:
    """weights `[B, Hkv, g, k]`; values `[B, Hkv, k, d_v]`, or `[B, Hkv, g, k, d_v]` for each query head its own."""
    if values.dim() == 4:
        return weights @ values.to(weights.dtype)
    return (weights.unsqueeze(-2) @ values.to(weights.dtype)).squeeze(-2)


def _encode(x: Tensor, layer: AttentionLayer, seen: list[int]) -> Tensor:
    """x `[B, H, 1, d]` encoded at each row's position."""
    if len(set(seen)) == 1:
        return layer.positions.at(x, seen[0])
    if layer.positions.slopes is not None:
        return x
    return layer.positions.rotate(x, _row_table(layer.positions, tuple(seen), x.device))


@lru_cache(maxsize=8)
def _column(positions: tuple[int, ...], device: torch.device) -> Tensor:
    """int64 `[B or 1, 1]`."""
    return torch.tensor(positions, device=device)[:, None]


@lru_cache(maxsize=8)
def _row_table(encoding: RotaryPositions, positions: tuple[int, ...], device: torch.device) -> Table:
    """For one token per row, `[B, 1, 1, rotary_dim / 2]`."""
    return encoding.table(_column(positions, device)[:, None])


@lru_cache(maxsize=1)
def _ring_table(encoding: RotaryPositions, last: tuple[int, ...], slots: int, size: int, device: torch.device) -> Table:
    """For the keys in the first `slots` of a ring of `size`, `[B or 1, 1, slots, rotary_dim / 2]`."""
    last = _column(last, device)
    distance = (last - torch.arange(slots, device=device)) % size
    return encoding.table((last - distance).clamp(min=0)[:, None])


class _Newest:
    """The newest token of each row, folded to `[B, Hkv, g, d]`, and its scores `[B, Hkv, g, k]` per kind of key."""

    def __init__(self, query: Tensor, layer: AttentionLayer, past: LambdaLayer) -> None:
        self.layer, self.past, self.raw = layer, past, query
        self.config, self.positions = layer.config, layer.positions
        last = [seen - 1 for seen in past.seen]
        self.last = last[:1] if past.aligned else last
        self.dtype = torch.float32 if self.positions.slopes is not None else query.dtype
        self.position = _column(tuple(self.last), query.device)
        self.near = self._fold(_encode(query, layer, last))
        self.reached_sinks = min(self.config.global_branch, max(0, max(last) - self.config.local_branch + 1))

    @cached_property
    def far(self) -> Tensor:
        """The query as keys at the limit feel it."""
        limit = self.config.limit_distance
        return self.near if limit is None else self._fold(self.positions.at_distance(self.raw, limit))

    @cached_property
    def sink_query(self) -> Tensor:
        """The query as the first tokens feel it before any limit."""
        latest = self.config.latest_position
        if latest is None:
            return self.near
        return self._fold(_encode(self.raw, self.layer, [min(position, latest) for position in self.last]))

    @property
    def slopes(self) -> Tensor | None:
        """Those of ALiBi, `[Hkv, g, 1]`."""
        slopes = self.positions.slopes
        return None if slopes is None else self.positions.slopes_on(self.raw.device).view(*self.near.shape[1:3], 1)

    def _fold(self, query: Tensor) -> Tensor:
        rows, heads, _, width = query.shape
        key_heads = self.past.keys.shape[1]
        return (query * self.layer.scale).to(self.dtype).view(rows, key_heads, heads // key_heads, width)

    def _score(self, query: Tensor, key: Tensor) -> Tensor:
        return query @ key.to(self.dtype).transpose(-1, -2)

    def _finish(self, scores: Tensor, distance: Tensor, attended: Tensor | None) -> Tensor:
        """Add the ALiBi bias for `distance` `[B or 1, k]` and drop keys that are not attended."""
        if self.slopes is not None:
            scores = scores - self.slopes * self.config.capped(distance)[:, None, None].to(scores.dtype)
        return scores if attended is None else scores.masked_fill(~attended[:, None, None], float("-inf"))

    def window(self) -> tuple[Tensor, Tensor]:
        keys, values = self.past.keys[:, :, : self.past.filled], self.past.values[:, :, : self.past.filled]
        needs_distance = self.config.caps_window or self.positions.slopes is not None or not self.past.aligned
        if not needs_distance:
            return self._score(self.near, keys), values
        slots = torch.arange(keys.shape[-2], device=keys.device)
        distance = (self.position - slots) % self.config.local_branch
        attended = None if self.past.aligned else distance <= self.position
        if not self.config.caps_window or self.positions.slopes is not None:
            return self._finish(self._score(self.near, keys), distance, attended), values
        ring = (tuple(self.last), keys.shape[-2], self.config.local_branch, keys.device)
        encoded = self.positions.rotate(keys, _ring_table(self.positions, *ring))
        beyond = (distance >= self.config.limit_distance)[:, None, None]
        scores = torch.where(beyond, self._score(self.far, keys), self._score(self.near, encoded))
        return self._finish(scores, distance, attended), values

    def sinks(self) -> tuple[Tensor, Tensor]:
        keys, values = (x[:, :, : self.reached_sinks] for x in (self.past.sink_keys, self.past.sink_values))
        distance = (self.position - torch.arange(self.reached_sinks, device=keys.device))[:, None, None, None]
        slopes = None if self.slopes is None else self.slopes[..., None]
        near, far = lambda: self.sink_query, lambda: self.far
        return score_sinks(self.layer, keys.to(self.dtype), distance, near, far, slopes), values

    def _middle(self) -> tuple[Tensor, Tensor, Tensor]:
        """Middle keys (as projected) and values where they are kept, and which of them each row has, `[B or 1, k]`."""
        first = self.config.global_branch
        count = max(0, max(self.last) - self.config.local_branch + 1 - first)
        part = slice(first, first + count)
        keys, values = self.past.history_keys[:, :, part], self.past.history_values[:, :, part]
        position = _column(tuple(self.last), keys.device)
        distance = position - torch.arange(first, first + count, device=keys.device)
        return keys, values, distance >= self.config.local_branch

    def middle(self) -> tuple[Tensor, Tensor]:
        """All middle keys at the limit distance, less `t * log(their number)`."""
        keys, values, attended = self._middle()
        count = attended.sum(-1).clamp(min=1).double()
        offset = (self.config.triangle_offset * count.log()).to(self.dtype)[:, None, None, None]
        distance = torch.full_like(attended, self.config.limit_distance, dtype=torch.int64)
        return self._finish(self._score(self.far, keys) - offset, distance, attended), values

    def best(self) -> tuple[Tensor, Tensor]:
        """Per query head the k middle keys that score highest at distance `insert_at`, with those scores."""
        top_k, device = self.config.top_k, self.raw.device
        keys, values, attended = self._middle()
        query = self._fold(self.positions.at_distance(self.raw, top_k.insert_at))
        scores, chosen = _search(query.to(keys.device), keys, attended, top_k.k)
        rows = torch.arange(values.shape[0], device=values.device)[:, None, None, None]
        heads = torch.arange(values.shape[1], device=values.device)[:, None, None]
        scores, values = scores.to(device), values[rows, heads, chosen].to(device)
        return scores if self.slopes is None else scores - self.slopes * top_k.insert_at, values


def _search(query: Tensor, keys: Tensor, attended: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest scores per query head and the columns of their keys, both `[B, Hkv, g, <= k]`.

    query `[B, Hkv, g, d]`, keys `[B, Hkv, n, d]`, attended `[B or 1, n]`: all on the device of the keys, which never
    move: one pass over them is bound by memory. On the CPU half precision is slower than converting it.
    """
    columns, on_host = keys.shape[-2], keys.device.type == "cpu"
    query = query.float() if on_host and query.dtype.itemsize < 4 else query
    block = HOST_BLOCK if on_host else max(1, columns)
    found = []
    for first in range(0, max(1, columns), block):  # without any key, one empty block
        part = slice(first, first + block)
        scores = query @ keys[:, :, part].to(query.dtype).transpose(-1, -2)
        scores = scores.masked_fill(~attended[:, None, None, part], float("-inf"))
        best, chosen = scores.topk(min(k, scores.shape[-1]), dim=-1)
        found.append((best, chosen + first))
    scores, chosen = (torch.cat(parts, -1) for parts in zip(*found))
    scores, order = scores.topk(min(k, columns), dim=-1)
    return scores, chosen.gather(-1, order)
