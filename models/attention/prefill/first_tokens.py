"""The first tokens beside a window that a fused kernel attended: few columns more, joined by log-sum-exp in float32."""

from functools import reduce

import torch
from torch import Tensor

from ..compiled import run_fused
from ..config import AttentionLayer, LambdaConfig
from ..sinks import SinkProducts, felt_scores, sink_products
from .encoding import encode, encode_at_distance
from .matrix_products import multiply_exactly
from .segment import Segment

Part = tuple[Tensor, Tensor]
"""Attention over some of the keys, `[B, Hq, m, d_v]`, and the log-sum-exp of its scores, float32 `[B, Hq, m, 1]`."""


def join_first_tokens(
    segment: Segment, layer: AttentionLayer, encoded: Tensor, window: list[Part], output: Tensor
) -> None:
    """Write the attention of a segment's queries into output `[B, Hq, m, d_v]`.

    encoded: the queries `[B, Hq, m, d]` at their positions. window: the attention over the window's keys, each of which
    is in one of these parts.
    """
    parts, last_position = list(window), segment.start + segment.query.shape[-2] - 1
    if layer.config.global_branch and last_position >= layer.config.local_branch:
        parts.append(_attend_first_tokens(segment, layer, encoded))
    outputs, log_sums = zip(*parts)
    if layer.sink_logit is not None:
        log_sums = (*log_sums, layer.sink_logit.float().view(1, -1, 1, 1))
    if len(log_sums) == 1:
        output.copy_(outputs[0])
    else:
        run_fused(merge_into, layer.fuses(output), output, outputs, log_sums)


def merge_into(output: Tensor, outputs: tuple[Tensor, ...], log_sums: tuple[Tensor, ...]) -> None:
    """Join attention over disjoint keys: outputs `[B, Hq, m, d_v]`, each with its scores' log-sum-exp `[B, Hq, m, 1]`.

    Some part of each row has keys. Log-sum-exps beyond those of the outputs are of parts whose values are zero. Written
    out, for torch.compile makes one kernel of this and four of a `logsumexp`.
    """
    highest = reduce(torch.maximum, log_sums)
    weights = [(log_sum - highest).exp() for log_sum in log_sums]
    output.copy_(sum(part.float() * weight for part, weight in zip(outputs, weights)) / sum(weights))


class _Queries:
    """The `SinkQueries` of a segment, `[B, Hq, m, d]`: key heads are repeated, for their few keys are soon copied."""

    def __init__(self, segment: Segment, layer: AttentionLayer, encoded: Tensor) -> None:
        self.segment, self.layer, self.encoded = segment, layer, encoded

    def felt(self) -> Tensor:
        latest = self.layer.config.latest_position
        if latest is None:
            return self.encoded
        return encode(self.segment.query, self.segment.start, self.layer, latest)

    def key_in_place(self, key: Tensor) -> Tensor:
        return encode(key, 0, self.layer, scale=self.layer.scale)

    def projected(self) -> Tensor:
        return self.segment.query

    def key_at_limit(self, key: Tensor) -> Tensor:
        return encode_at_distance(key, -self.layer.config.limit_distance, self.layer, self.layer.scale)

    def product(self, query: Tensor, key: Tensor) -> Tensor:
        return multiply_exactly(query, key.repeat_interleave(query.shape[1] // key.shape[1], 1).mT)


def _attend_first_tokens(segment: Segment, layer: AttentionLayer, encoded: Tensor) -> Part:
    """The first tokens beyond the window, by plain products: they are few. Rows that reach none weigh nothing.

    Their scores are the largest of many heads: rounded to half precision they would be off by more than the window's.
    """
    heads, rows = segment.query.shape[1:3]
    value = segment.sink_value.repeat_interleave(heads // segment.sink_value.shape[1], 1)
    slopes = layer.positions.slopes
    slopes = None if slopes is None else layer.positions.slopes_on(value.device).view(heads, 1, 1, 1)
    products = sink_products(layer, _Queries(segment, layer, encoded), segment.sink_key)
    arguments = (*products, slopes, segment.start, rows, layer.config, value.dtype, layer.soft_cap)
    # Fewer are those of a text shorter than the global branch: each number of them would be compiled anew.
    fuse = layer.fuses(value) and value.shape[-2] == layer.config.global_branch
    weights, lse = run_fused(weigh_first_tokens, fuse, *arguments)
    return weights @ value, lse


def weigh_first_tokens(
    near: Tensor | None,
    far: Tensor | None,
    slopes: Tensor | None,
    start: int,
    rows: int,
    config: LambdaConfig,
    dtype: torch.dtype,
    soft_cap: float | None = None,
) -> Part:
    """Weights `[B, Hq, m, S]`, in dtype, and log-sum-exps, float32 `[B, Hq, m, 1]`, of SinkProducts.

    start: position of the first of the m rows.
    """
    products = SinkProducts(near, far)
    device, count = next((x.device, x.shape[-1]) for x in products if x is not None)
    distance = start + torch.arange(rows, device=device)[:, None] - torch.arange(count, device=device)
    scores = felt_scores(products, config, distance, slopes, soft_cap=soft_cap).float()
    lse = scores.logsumexp(-1, keepdim=True)
    return (scores - lse).exp().nan_to_num(0.0).to(dtype), lse
