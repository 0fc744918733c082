"""Λ-attention and its alternatives on a whole sequence, by the names that results and pictures have for them."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from benchmarks.alternatives.dense import dense_attention
from benchmarks.alternatives.published import published_attention
from models.lambda_attention import AttentionLayer, lambda_attention

OURS, DENSE, PUBLISHED = "Λ-attention", "dense causal", "published"


@dataclass(frozen=True)
class Method:
    """attend: as `lambda_attention`, on a whole sequence. exponent: its time grows with this power of the length."""

    attend: Callable[[Tensor, Tensor, Tensor, AttentionLayer], Tensor]
    exponent: int


METHODS = {
    OURS: Method(lambda_attention, 1),
    DENSE: Method(dense_attention, 2),
    PUBLISHED: Method(published_attention, 1),
}
