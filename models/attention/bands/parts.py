"""Attention to some of the keys, with the log-sum-exp of its scores, by which parts are joined to the whole.

Rows are the queries of all heads that share a key head: `[B, Hkv, g * m, .]`.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..compiled import run_fused
from ..config import AttentionLayer
from ..prefill.flash import WIDEST, WIDTH_MULTIPLE, lacks_flash
from ..prefill.fused_cpu import attend_fused_cpu, has_fused_cpu
from ..prefill.matrix_products import multiply_exactly
from ..sinks import soft_capped
from .band import Band

Part = tuple[Tensor, Tensor]
"""Attention to some keys, `[B, Hkv, rows, d_v]`, and the log-sum-exp of its scores, `[B, Hkv, rows, 1]`, -inf and 0
where a row has none of them."""


@dataclass(frozen=True)
class Tile:
    """Queries of a block `[B, Hq, m, d]` and some keys `[B, Hkv, k, d]` and values, encoded as a band has them.

    query_places, key_places: their positions in the text, int64 on their device.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    query_places: Tensor
    key_places: Tensor

    @property
    def group(self) -> int:
        return self.query.shape[1] // self.key.shape[1]

    def rows(self) -> Tensor:
        """The queries, `[B, Hkv, g * m, d]`."""
        return self.query.unflatten(1, (-1, self.group)).flatten(2, 3)


def is_fused(query: Tensor, value: Tensor, layer: AttentionLayer) -> bool:
    """Whether torch has a kernel for these scores that gives their log-sum-exp; a single query needs none."""
    width = query.shape[-1]
    if layer.config.backend in ("blockwise", "onednn"):
        return False
    if layer.soft_cap is not None or layer.positions.slopes is not None or width != value.shape[-1]:
        return False
    if query.shape[-2] == 1:
        return False
    if query.device.type == "cpu":
        return has_fused_cpu()
    return width <= WIDEST and width % WIDTH_MULTIPLE == 0 and lacks_flash(query.device, query.dtype) is None


def attend_all(tile: Tile, scale: float) -> Part:
    """Every query to every key, fused."""
    if tile.query.is_cuda:
        return _by_key_head(tile, *_flash(tile.query, tile.key, tile.value, scale, causal=False))
    return _by_key_head(tile, *attend_fused_cpu(tile.rows(), tile.key, tile.value, scale, causal=False))


def attend_growing(tile: Tile, scale: float) -> Part:
    """Each query to the keys up to its own place, of which there are as many as queries, fused."""
    return _by_key_head(tile, *_triangle(tile.query, tile.key, tile.value, scale))


def attend_shrinking(tile: Tile, scale: float) -> Part:
    """Each query to the keys from its own place on, one fewer than queries, fused: the same from behind."""
    query, key, value = (x.flip(2) for x in (tile.query[:, :, :-1], tile.key, tile.value))
    output, log_sum = _triangle(query, key, value, scale)
    output, log_sum = F.pad(output.flip(2), (0, 0, 0, 1)), F.pad(log_sum.flip(2), (0, 1), value=float("-inf"))
    return _by_key_head(tile, output, log_sum)


FUSED = {"all": attend_all, "growing": attend_growing, "shrinking": attend_shrinking}
"""By the kinds of `attend.Zone` that torch's fused kernels attend to."""


def _by_key_head(tile: Tile, output: Tensor, log_sum: Tensor) -> Part:
    shape = tile.key.shape[0], tile.key.shape[1], tile.group * tile.query.shape[2], -1
    return output.reshape(shape), log_sum.reshape(shape)


def _triangle(query: Tensor, key: Tensor, value: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Output `[B, Hq, m, d_v]` and log-sum-exp `[B, Hq, m]`."""
    if query.is_cuda:
        return _flash(query, key, value, scale, causal=True)
    return attend_fused_cpu(query, key, value, scale, causal=True)


def _flash(query: Tensor, key: Tensor, value: Tensor, scale: float, causal: bool) -> tuple[Tensor, Tensor]:
    """`prefill.flash` says more of this operator; query heads share key heads without a copy."""
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    lengths = query.shape[1], key.shape[1]
    output, log_sum, *_ = torch.ops.aten._flash_attention_forward(
        query, key, value, None, None, *lengths, 0.0, causal, False, scale=scale
    )
    return output.transpose(1, 2), log_sum


def attend_products(tile: Tile, band: Band, layer: AttentionLayer, masked: bool) -> Part:
    """The same by matrix products, in at least float32, for every kind of score.

    masked: whether some of the keys are not in the band of some of the queries.
    """
    scores = multiply_exactly(tile.rows(), tile.key.mT) * layer.scale
    scores = soft_capped(scores, layer.soft_cap)
    by_head = scores.unflatten(2, (tile.group, -1))
    if layer.positions.slopes is not None:
        slopes = layer.positions.slopes_on(scores.device).view(-1, tile.group, 1, 1)
        by_head = by_head - slopes * band.distance(tile.query_places, tile.key_places)
    if masked:
        by_head = by_head.masked_fill(~band.holds(tile.query_places, tile.key_places), float("-inf"))
    scores = by_head.flatten(2, 3)
    log_sum = scores.logsumexp(-1, keepdim=True)
    weights = (scores - log_sum).exp().nan_to_num(0.0)
    return multiply_exactly(weights.to(tile.value.dtype), tile.value), log_sum


class Joined:
    """Attention to the keys of all parts that were added, in at least float32."""

    def __init__(self, fuse: bool) -> None:
        """fuse: whether torch.compile makes one kernel of what joins two parts."""
        self._fuse = fuse
        self._output: Tensor | None = None
        self._log_sum: Tensor | None = None

    def add(self, output: Tensor, log_sum: Tensor) -> None:
        """Join a Part."""
        if self._output is None:
            dtype = torch.promote_types(output.dtype, torch.float32)
            self._output = output.to(dtype, copy=True)
            self._log_sum = log_sum.to(dtype).clamp(min=torch.finfo(dtype).min)  # two of -inf would make a NaN
        else:
            run_fused(join_into, self._fuse, self._output, self._log_sum, output, log_sum)

    def output(self, layer: AttentionLayer) -> Tensor:
        """`[B, Hkv, rows, d_v]`; a learned score of each head has its share and weighs nothing."""
        if layer.sink_logit is None:
            return self._output
        key_heads, rows = self._log_sum.shape[1:3]
        learned = layer.sink_logit.to(self._log_sum.dtype).view(1, key_heads, -1, 1, 1)
        log_sum = self._log_sum.unflatten(2, (learned.shape[2], -1))
        kept = (log_sum - torch.logaddexp(log_sum, learned)).exp().reshape(-1, key_heads, rows, 1)
        return self._output * kept


def join_into(output: Tensor, log_sum: Tensor, other: Tensor, other_log_sum: Tensor) -> None:
    """Join a second Part into the first one's memory; log_sum is finite."""
    highest = torch.maximum(log_sum, other_log_sum)
    weight, other_weight = (log_sum - highest).exp(), (other_log_sum - highest).exp()
    total = weight + other_weight
    output.mul_(weight / total).add_(other * (other_weight / total))
    log_sum.copy_(highest + total.log())
