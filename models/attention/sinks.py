"""The first tokens as they are felt from beyond the window: decided here, for all backends.

With a limit D they are felt at distance `min(i - j, D)`: `(R_i q)·(R_j k)` below it, `(R_D q)·k` from it on. Counted
inside the cache, a query stands at `min(i, latest)`: `(R_min q)·(R_j k)`.
"""

from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor

from .config import AttentionLayer, LambdaConfig


class SinkQueries(Protocol):
    """A backend's queries against the first tokens; each form is made only where a configuration needs it.

    scale: the factor on scores, which `felt` has in it and `projected` has not.
    """

    scale: float

    def felt(self) -> Tensor:
        """Queries `[*, g * m, d]` encoded at min(i, latest_position), and scaled."""

    def projected(self) -> Tensor:
        """Queries `[*, g * m, d]` without positions."""

    def product(self, query: Tensor, key: Tensor) -> Tensor:
        """`query @ key.mT`, in the dtype of the scores."""


def score_sinks(
    layer: AttentionLayer,
    queries: SinkQueries,
    key: Tensor,
    distance: Tensor,
    slopes: Tensor | None,
    beyond_window: bool = False,
) -> Tensor:
    """Scores `[*, g * m, S]` of the first S keys, `[*, S, d]` as projected; -inf where a window holds them.

    distance: int64 `i - j`, to broadcast against `[*, g, m, S]`. slopes: those of ALiBi, `[*, g, 1, 1]`, else None.
    beyond_window: the caller knows that no window holds one of these keys.
    """
    config, encoding = layer.config, layer.positions
    limit, count = config.limit_distance, distance.shape[-2]

    def score(query: Tensor, key: Tensor) -> Tensor:
        return rearrange(queries.product(query, key), "... (g m) s -> ... g m s", m=count)

    if slopes is not None:
        scores = score(queries.felt(), key).float() - slopes * felt_distance(distance, config)
    elif limit is None:
        scores = score(queries.felt(), encoding.at(key, 0))
    else:
        # (R_D q)·k = q·(R_-D k), and there are fewer first tokens than queries.
        scores = score(queries.projected(), encoding.at_distance(key, -limit, queries.scale))
        if limit > config.local_branch:  # else all of them are beyond it
            scores = torch.where(distance < limit, score(queries.felt(), encoding.at(key, 0)), scores)
    if not beyond_window:
        scores = scores.masked_fill(distance < config.local_branch, float("-inf"))
    return rearrange(scores, "... g m s -> ... (g m) s")


def felt_distance(distance: Tensor, config: LambdaConfig) -> Tensor:
    """The distance to the first tokens as felt; that to the very first is the query's position."""
    if config.latest_position is None:
        return config.capped(distance)
    return distance - (distance[..., :1] - config.latest_position).clamp(min=0)
