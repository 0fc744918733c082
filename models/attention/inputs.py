"""The inputs of a converted model: padding, positions and caches that Λ-attention can honour, the rest refused."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicCache

from ..assumptions import find_cache
from .config import Method
from .decode.recurrent import ATTENDING, CacheLayer, LayerPlan, layer_plan, planned_layers


def new_columns(mask: Tensor | None, new_tokens: int) -> Tensor | None:
    """The padding mask `[B, n]` of the new tokens, from one that may also cover the cached ones."""
    if mask is not None and (not isinstance(mask, Tensor) or mask.dim() != 2 or mask.shape[1] < new_tokens):
        raise ValueError(
            f"Λ-attention takes a padding mask of shape [batch, tokens], with at least the {new_tokens} new tokens, "
            f"not {list(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__}: generate makes such masks "
            "for a static cache, which Λ-attention has no use for, so leave cache_implementation out"
        )
    return None if mask is None else mask[:, -new_tokens:]


def check_positions(position_ids: Tensor | None, mask: Tensor | None) -> None:
    """Positions are counted from a row's first real token, so they must be consecutive: no packed sequences."""
    if position_ids is None or position_ids.shape[-1] < 2:
        return
    steps = position_ids.diff(dim=-1)
    if mask is not None:
        steps = torch.where(mask[:, 1:].bool() & mask[:, :-1].bool(), steps, 1)
    if bool((steps != 1).any()):
        raise ValueError("Λ-attention needs consecutive position_ids within a row: packed sequences are not supported")


def check_layers_agree(cache: Cache) -> None:
    """Raise ValueError for a cache that a forward was interrupted in: some of its layers are ahead of the others."""
    if cache.layers[0].step is None and len(set().union(*(layer.counts() for layer in cache.layers))) > 1:
        raise ValueError(
            "the layers of this cache have read different numbers of tokens: a forward was interrupted between them, "
            "so begin with a new cache"
        )


def refuse_other_rank(cache: Cache) -> None:
    """Raise ValueError where the window of a cache is on another rank of the group that read it."""
    if cache.layers[0].lacks_window:
        raise ValueError(
            "this cache was read by a sequence_group, and its window is on the group's last rank: go on there, or call "
            "share_cache(cache, sequence_group) on all ranks first"
        )


def refuse_two_caches(model: nn.Module, args: tuple, kwargs: dict) -> None:
    """Before the causal LM's forward: where two are given, Transformers would leave one out."""
    find_cache(kwargs)


def as_lambda_cache(cache: Cache, config: Method, plans: Sequence[LayerPlan]) -> Cache:
    """A caller's cache, ready for Λ-attention: one of ours, or an empty `DynamicCache`, refitted in place.

    config: the model's; plans: of each layer.
    Raises ValueError for any other cache: what it holds was not made by Λ-attention.
    """
    if not isinstance(cache, Cache):
        raise ValueError(f"a model with Λ-attention needs a LambdaCache or an empty DynamicCache, not a {_kind(cache)}")
    if cache.layers and all(isinstance(layer, CacheLayer) for layer in cache.layers):
        _check_made_for(cache, config, plans)
        if [_plan_of(layer) for layer in cache.layers] != list(plans):
            cache.layers = planned_layers(plans)
        return cache
    if isinstance(cache, DynamicCache) and cache.get_seq_length() == 0 and not cache.offloading:
        cache.layers = planned_layers(plans)
        cache.layer_class_to_replicate = None
        return cache
    raise ValueError(
        f"a model with Λ-attention needs a LambdaCache or an empty DynamicCache, not a {_kind(cache)} that is "
        "filled, static, quantized or offloaded"
    )


def _check_made_for(cache: Cache, config: Method, plans: Sequence[LayerPlan]) -> None:
    """Raise ValueError for one of ours that another model has filled, or that was made for another."""
    if len(cache.layers) != len(plans):
        raise ValueError(f"this cache was made for {len(cache.layers)} layers, and the model has {len(plans)}")
    for layer, plan in zip(cache.layers, plans):
        if _plan_of(layer) != plan and (any(layer.counts()) or _plan_of(layer) != layer_plan(config, False)):
            made_for, wanted = _described(_plan_of(layer)), _described(plan)
            raise ValueError(f"this cache was made for {made_for}, but the model is converted with {wanted}")


def _plan_of(layer: CacheLayer) -> LayerPlan:
    return type(layer), layer.config


def _described(plan: LayerPlan) -> str:
    kind, config = plan
    return str(config) if kind in ATTENDING else f"a {kind.__name__}" + (f" of {config}" if config else "")


def _kind(value: object) -> str:
    return type(value).__name__
