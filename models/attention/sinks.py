"""The first tokens as they are felt from beyond the window: decided here, for all backends.

With a limit D they are felt at distance `min(i - j, D)`: `(R_i q)·(R_j k)` below it, `(R_D q)·k` from it on. Counted
inside the cache, a query stands at `min(i, latest)`: `(R_min q)·(R_j k)`.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from .config import AttentionLayer, LambdaConfig


class SinkQueries(Protocol):
    """A backend's queries against the first tokens; each form is made only where a configuration needs it.

    The factor on scores is in one of each pair: `felt` and `key_in_place`, `projected` and `key_at_limit`.
    """

    def felt(self) -> Tensor:
        """Queries `[*, g * m, d]` encoded at min(i, latest_position)."""

    def key_in_place(self, key: Tensor) -> Tensor:
        """The first keys `[*, S, d]` encoded at their positions, 0, 1, ..."""

    def projected(self) -> Tensor:
        """Queries `[*, g * m, d]` without positions."""

    def key_at_limit(self, key: Tensor) -> Tensor:
        """`R_-D k`: (R_D q)·k = q·(R_-D k), and there are fewer first tokens than queries."""

    def product(self, query: Tensor, key: Tensor) -> Tensor:
        """`query @ key.mT`, in the dtype of the scores."""


class SinkProducts(NamedTuple):
    """Scaled products of queries and first tokens, `[*, g * m, S]`: before the limit and at it.

    None where a configuration has no such distances.
    """

    near: Tensor | None
    far: Tensor | None


def score_sinks(
    layer: AttentionLayer,
    queries: SinkQueries,
    key: Tensor,
    distance: Tensor,
    slopes: Tensor | None,
    beyond_window: bool = False,
    soft_cap: float | None = None,
) -> Tensor:
    """Scores `[*, g * m, S]` of the first S keys, `[*, S, d]` as projected; -inf where a window holds them.

    distance: int64 `i - j`, to broadcast against `[*, g, m, S]`. slopes: those of ALiBi, `[*, g, 1, 1]`, else None.
    beyond_window: the caller knows that no window holds one of these keys. soft_cap: in the unit of the scores.
    """
    return felt_scores(sink_products(layer, queries, key), layer.config, distance, slopes, beyond_window, soft_cap)


def soft_capped(scores: Tensor, soft_cap: float | None) -> Tensor:
    """`c * tanh(scores / c)`; None leaves them as they are."""
    return scores if soft_cap is None else soft_cap * torch.tanh(scores / soft_cap)


def sink_products(layer: AttentionLayer, queries: SinkQueries, key: Tensor) -> SinkProducts:
    """The matrix products behind `score_sinks`. key: as there."""
    limit = layer.config.limit_distance

    def near() -> Tensor:
        return queries.product(queries.felt(), queries.key_in_place(key))

    if layer.positions.slopes is not None or limit is None:
        return SinkProducts(near(), None)
    far = queries.product(queries.projected(), queries.key_at_limit(key))
    # With a limit inside the window all of them are beyond it.
    return SinkProducts(near() if limit > layer.config.local_branch else None, far)


def felt_scores(
    products: SinkProducts,
    config: LambdaConfig,
    distance: Tensor,
    slopes: Tensor | None,
    beyond_window: bool = False,
    soft_cap: float | None = None,
) -> Tensor:
    """The scores that `score_sinks` gives, of products that are there already."""
    near, far = (None if x is None else x.unflatten(-2, (-1, distance.shape[-2])) for x in products)
    if slopes is not None:
        scores = near.float() - slopes * felt_distance(distance, config)
    elif far is None:
        scores = near
    elif near is None:
        scores = far
    else:
        scores = torch.where(distance < config.limit_distance, near, far)
    scores = soft_capped(scores, soft_cap)
    if not beyond_window:
        scores = scores.masked_fill(distance < config.local_branch, float("-inf"))
    return scores.flatten(-3, -2)


def felt_distance(distance: Tensor, config: LambdaConfig) -> Tensor:
    """The distance to the first tokens as felt; that to the very first is the query's position."""
    if config.latest_position is None:
        return config.capped(distance)
    return distance - (distance[..., :1] - config.latest_position).clamp(min=0)
