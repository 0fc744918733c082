"""Decoding: one query per row against the cache, `[window | first | middle]` columns under one softmax.

The rows of a batch may stand at different positions (left-padded prompts); keys rest in the ring and are never copied.
What follows from the positions alone is made once per token for all layers: on a GPU each copy from the host waits.
"""

from functools import lru_cache

import torch
from torch import Tensor

from ..config import AttentionLayer, LambdaConfig
from ..positions import PositionEncoding
from ..sinks import soft_capped
from .cache import LambdaLayer
from .compiled_step import attend_compiled, pass_for
from .fused_step import attend_fused
from .step import DecodeStep, Heads, at_least_float32, decode_step

HOST_BLOCK = 1024
"""Keys in host memory are searched for the best ones so many at a time: what is made of them stays in the cache."""

Columns = tuple[Tensor, Tensor]
"""Scores `[B, Hkv, g, k]` and values: `[B, Hkv, k, d_v]`, or `[B, Hkv, g, k, d_v]` for each query head its own."""


def attend_one(query: Tensor, key: Tensor, value: Tensor, layer: AttentionLayer, past: LambdaLayer) -> Tensor:
    """`lambda_attention` for n = 1. query `[B, Hq, 1, d]`, key `[B, Hkv, 1, d]`, value `[B, Hkv, 1, d_v]`."""
    step = past.step
    if step is None:
        past.begin(key, value)
        past.count(1)
        step = _step_of_newest(query, key, layer, past)
        run = pass_for(query, value, layer, past, step)
        if run is not None:
            return attend_compiled(run, query, key, value, layer, past, step)
    else:
        past.stepped = True
        if layer.fuses(query):
            return attend_fused(query, key, value, layer, past)
    near, far, turned = step.encode(query, key)
    past.write(key if layer.config.caps_window else turned, value, step.slot)
    return _attend(query, near, far, layer, past, step)


def attend_newest(query: Tensor, key: Tensor, layer: AttentionLayer, past: LambdaLayer) -> Tensor:
    """Attention of each row's newest token, already in the cache. Shapes as above; returns `[B, Hq, 1, d_v]`."""
    step = _step_of_newest(query, key, layer, past)
    near, far, _ = step.encode(query, key)
    return _attend(query, near, far, layer, past, step)


def _step_of_newest(query: Tensor, key: Tensor, layer: AttentionLayer, past: LambdaLayer) -> DecodeStep:
    last = tuple(seen - 1 for seen in (past.seen[:1] if past.aligned else past.seen))
    return _step_at(last, layer.config, layer.positions, Heads.of(query, key, layer.scale), query.device)


@lru_cache(maxsize=8)
def _step_at(
    last: tuple[int, ...], config: LambdaConfig, encoding: PositionEncoding, heads: Heads, device: torch.device
) -> DecodeStep:
    """The same for all layers of a kind; only columns that some row attends to are scored."""
    slots = min(max(last) + 1, config.local_branch)
    sinks = min(config.global_branch, max(0, max(last) - config.local_branch + 1))
    position = torch.tensor(last, device=device)
    return decode_step(config, encoding, heads, position, slots, sinks, complete=len(last) == 1)


def _attend(
    query: Tensor, near: Tensor, far: Tensor, layer: AttentionLayer, past: LambdaLayer, step: DecodeStep
) -> Tensor:
    """query: as projected; near, far: as the window and the first tokens feel it."""
    heads, rows = step.heads, query.shape[0]
    folded = (rows, heads.key, heads.query // heads.key, heads.width)
    columns = [_window(near.reshape(folded), layer, past, step)]
    if step.sinks:
        columns.append(_first(far.reshape(folded), layer, past, step))
    scores = soft_capped(torch.cat([scores for scores, _ in columns], -1), layer.soft_cap)
    if step.bias is not None:
        scores = scores + step.bias
    if layer.config.selects_top_k(layer.layer_idx):
        middle = _Middle(query, layer, past, step).best()
        scores = torch.cat([scores, middle[0]], -1)
        columns.append(middle)
    sizes = [scores.shape[-1] for scores, _ in columns]
    if layer.sink_logit is not None:  # one column more, without a value
        scores, sizes = torch.cat([scores, _sink_column(layer, scores)], -1), [*sizes, 1]
    weights = scores.softmax(-1, dtype=at_least_float32(scores)).split(sizes, -1)
    output = _weigh(weights[0], columns[0][1])
    for part, (_, values) in zip(weights[1:], columns[1:]):
        output = output + _weigh(part, values)
    return output.to(query.dtype).view(rows, heads.query, 1, -1)


def _sink_column(layer: AttentionLayer, scores: Tensor) -> Tensor:
    """The learned score of each head, float32 `[B, Hkv, g, 1]`, beside scores `[B, Hkv, g, k]`."""
    return layer.sink_logit.float().view(1, *scores.shape[1:3], 1).expand(scores.shape[0], -1, -1, -1)


def _window(near: Tensor, layer: AttentionLayer, past: LambdaLayer, step: DecodeStep) -> Columns:
    keys, values = past.keys.narrow(2, 0, step.slots), past.values.narrow(2, 0, step.slots)
    if step.window is not None:
        keys = layer.positions.rotate(keys, step.window)
    return _product(near, keys.mT), values


def _first(far: Tensor, layer: AttentionLayer, past: LambdaLayer, step: DecodeStep) -> Columns:
    """The first tokens' columns, in at least float32: so few take longer in half precision, on the CPU three times."""
    keys, values = (x.narrow(2, 0, step.sinks).to(far.dtype) for x in (past.sink_keys, past.sink_values))
    if step.first is not None:
        keys = layer.positions.rotate(keys, step.first)
    return _product(far, keys.mT), values


def _weigh(weights: Tensor, values: Tensor) -> Tensor:
    """weights: at least float32, `[B, Hkv, g, k]`; values as in Columns."""
    weights = weights.to(values.dtype)
    return _product(weights, values) if values.dim() == 4 else (weights.unsqueeze(-2) @ values).squeeze(-2)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """`left @ right` of `[B, Hkv, ., .]`, with less of what Python's operator does around the product."""
    return torch.bmm(left.flatten(0, 1), right.flatten(0, 1)).view(*left.shape[:2], left.shape[2], right.shape[3])


class _Middle:
    """The middle keys that each row's newest token attends to, where the configuration has it attend to any."""

    def __init__(self, query: Tensor, layer: AttentionLayer, past: LambdaLayer, step: DecodeStep) -> None:
        """query: `[B, Hq, 1, d]`, as projected."""
        self.query, self.layer, self.past, self.step = query, layer, past, step
        self.config, self.heads = layer.config, step.heads

    def _felt_at(self, distance: int) -> Tensor:
        """The scaled query as keys at that distance feel it, `[B, Hkv, g, d]`."""
        query = self.layer.positions.at_distance(self.query, distance) * self.heads.scale
        return query.reshape(query.shape[0], self.heads.key, -1, self.heads.width)

    def _slope_bias(self, distance: int) -> Tensor | float:
        """ALiBi's bias, `[Hkv, g, 1]`."""
        slopes = self.layer.positions.slopes
        if slopes is None:
            return 0.0
        return self.layer.positions.slopes_on(self.query.device).view(self.heads.key, -1, 1) * distance

    def _kept(self) -> tuple[Tensor, Tensor, Tensor]:
        """Middle keys (as projected) and values where they are kept, and which of them each row has, `[B or 1, k]`."""
        first = self.config.global_branch
        count = max(0, max(self.past.seen) - self.config.local_branch - first)
        part = slice(first, first + count)
        keys, values = self.past.history_keys[:, :, part], self.past.history_values[:, :, part]
        distance = self.step.position.to(keys.device)[:, None] - torch.arange(first, first + count, device=keys.device)
        return keys, values, distance >= self.config.local_branch

    def best(self) -> Columns:
        """The k keys of each query head that score highest at distance `insert_at`, with those scores.

        A row with fewer than k middle keys takes none, as published.
        """
        top_k, device = self.config.top_k, self.query.device
        keys, values, attended = self._kept()
        attended = attended & (attended.sum(-1, keepdim=True) >= top_k.k)
        scores, chosen = _search(self._felt_at(top_k.insert_at).to(keys.device), keys, attended, top_k.k)
        rows = torch.arange(values.shape[0], device=values.device)[:, None, None, None]
        heads = torch.arange(values.shape[1], device=values.device)[:, None, None]
        values = values[rows, heads, chosen].to(device)
        scores, closed = scores.to(device), scores.isneginf().to(device)
        scores = soft_capped(scores, self.layer.soft_cap).masked_fill(closed, float("-inf"))  # in the same order
        return scores - self._slope_bias(top_k.insert_at), values


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
