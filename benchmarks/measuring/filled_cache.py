"""Caches that stand far into a stream without having read it: what is kept of it is random, or taken from a text."""

from torch import Tensor

from models.attention.config import AttentionLayer, LambdaConfig
from models.attention.decode.cache import LambdaLayer


def filled_cache(config: LambdaConfig, key: Tensor, value: Tensor, layer: AttentionLayer, length: int) -> LambdaLayer:
    """The cache of one layer after `length` tokens, as `fill_layer` makes it."""
    cache = LambdaLayer(config)
    fill_layer(cache, key, value, layer, length)
    return cache


def fill_layer(cache: LambdaLayer, key: Tensor, value: Tensor, layer: AttentionLayer, length: int) -> None:
    """Have an empty cache hold `length` tokens, whose last L and first G are those of key and value.

    key, value: `[B, Hkv, <= G + L, d]`, keys as projected.
    """
    config, first = cache.config, min(cache.config.global_branch, key.shape[-2])
    ring_key, ring_value = (x[:, :, -config.local_branch :] for x in (key, value))
    cache.begin(key[:, :, :first], value[:, :, :first])
    cache.count(length - ring_key.shape[-2])
    cache.make_room(max(length, config.local_branch))
    stored = ring_key if config.caps_window else layer.positions.at(ring_key, cache.position)
    cache.finish(stored, ring_value, ring_key.shape[-2])
