"""The first tokens as they are felt from beyond the window: decided here, for all backends.

With a limit D they are felt at distance `min(i - j, D)`: `(R_i q)·(R_j k)` below it, `(R_D q)·k` from it on. Counted
inside the cache, a query stands at `min(i, latest)`: `(R_min q)·(R_j k)`.
"""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor

from .config import AttentionLayer, LambdaConfig

Queries = Callable[[], Tensor]
"""Gives queries `[*, g * m, d]`: made only where a configuration needs them."""


def score_sinks(
    layer: AttentionLayer,
    key: Tensor,
    distance: Tensor,
    near: Queries,
    far: Queries,
    slopes: Tensor | None,
    far_key: Callable[[], Tensor] | None = None,
    beyond_window: bool = False,
    multiply: Callable[[Tensor, Tensor], Tensor] = torch.matmul,
) -> Tensor:
    """Scores `[*, g * m, S]` of the first S keys, `[*, S, d]` as projected; -inf where a window holds them.

    distance: int64 `i - j`, to broadcast against `[*, g, m, S]`. near: queries encoded at min(i, latest_position), and
    scaled. far: queries encoded at the limit distance, and scaled; or, with `far_key`, which gives the keys `R_-D k`,
    scaled, queries as projected: `(R_D q)·k = q·(R_-D k)`. slopes: those of ALiBi, `[*, g, 1, 1]`, else None.
    beyond_window: the caller knows that no window holds one of these keys. multiply: gives matrix products of queries
    and keys, in the dtype of the scores.
    """
    config, encoding = layer.config, layer.positions
    limit, queries = config.limit_distance, distance.shape[-2]

    def score(query: Tensor, key: Tensor) -> Tensor:
        return rearrange(multiply(query, key.mT), "... (g m) s -> ... g m s", m=queries)

    if slopes is not None:
        scores = score(near(), key).float() - slopes * felt_distance(distance, config)
    elif limit is None:
        scores = score(near(), encoding.at(key, 0))
    else:
        scores = score(far(), key if far_key is None else far_key())
        if limit > config.local_branch:  # else all of them are beyond it
            scores = torch.where(distance < limit, score(near(), encoding.at(key, 0)), scores)
    if not beyond_window:
        scores = scores.masked_fill(distance < config.local_branch, float("-inf"))
    return rearrange(scores, "... g m s -> ... (g m) s")


def felt_distance(distance: Tensor, config: LambdaConfig) -> Tensor:
    """The distance to the first tokens as felt; that to the very first is the query's position."""
    if config.latest_position is None:
        return config.capped(distance)
    return distance - (distance[..., :1] - config.latest_position).clamp(min=0)
