"""Methods as lists of bands, from the formulas of their papers. A query stands at i and a key at j, d = i - j."""

from functools import lru_cache

import torch
from torch import Tensor

from ..positions import Places
from .band import Band, Bands

remembered = lru_cache(maxsize=64)
"""The same parameters give the same bands, and their functions the same tables of RoPE in all layers."""


@remembered
def self_extend(window: int, group: int) -> Bands:
    """SelfExtend (arXiv 2401.01325): neighbours, d < w, at their distance; the others at `floor(i / G) + w -
    floor(w / G) - floor(j / G)`.
    """

    def shifted(position: Tensor) -> Tensor:
        return position // group + window - window // group

    def grouped(position: Tensor) -> Tensor:
        return position // group

    return Band(beyond(window), beyond(0)), Band(none, beyond(window), shifted, grouped)


@remembered
def dual_chunks(chunk: int, window: int) -> Bands:
    """Dual Chunk Attention (arXiv 2402.17463), chunks of s tokens: a key stands at `j mod s`, and a query for the keys
    of its chunk at `i mod s`, of the one before at `min(s + i mod s, c - 1)`, of all others at `c - 1`; c = s + w.
    """

    def within(position: Tensor) -> Tensor:
        return position % chunk

    def after_one(position: Tensor) -> Tensor:
        return (chunk + position % chunk).clamp(max=chunk + window - 1)

    def own(position: Tensor) -> Tensor:
        return position - position % chunk

    def one_before(position: Tensor) -> Tensor:
        return (own(position) - chunk).clamp(min=0)

    return (
        Band(own, beyond(0), within, within),
        Band(one_before, own, after_one, within),
        Band(none, one_before, always(chunk + window - 1), within),
    )


@remembered
def causal() -> Bands:
    """All earlier keys, at their distance."""
    return (Band(none, beyond(0)),)


@remembered
def rerope(window: int) -> Bands:
    """ReRoPE (kexue.fm/archives/9708, github.com/bojone/rerope): the distance `min(d, w)`."""
    return Band(beyond(window), beyond(0)), Band(none, beyond(window), always(window), None)


@remembered
def leaky_rerope(window: int, factor: float) -> Bands:
    """Leaky ReRoPE (as above): d where d < w, else `w + (d - w) / k`."""

    def slowed(position: Tensor) -> Tensor:
        return position.double() / factor

    def shifted(position: Tensor) -> Tensor:
        return slowed(position) + (window - window / factor)

    return Band(beyond(window), beyond(0)), Band(none, beyond(window), shifted, slowed)


@remembered
def lambda_shape(
    local_branch: int, global_branch: int, limit: int | None, triangle_offset: float, latest: int | None
) -> Bands:
    """Λ-attention (arXiv 2308.16137) by the fields of LambdaConfig, top-k aside; latest: its `latest_position`.

    d < L at `min(d, D)`; j < G from beyond the window at the same, or from `min(i, latest)`; with an offset t all
    others at D, less `t * log(their number)`.
    """
    window, first_tokens = beyond(local_branch), _but_at_most(global_branch, beyond(local_branch))
    bands = [Band(beyond(local_branch if limit is None else min(local_branch, limit)), beyond(0))]
    if limit is not None and limit < local_branch:
        bands.append(Band(window, beyond(limit), always(limit), None))
    if limit is None:
        bands.append(Band(none, first_tokens) if latest is None else Band(none, first_tokens, _at_most(latest)))
    else:
        beyond_limit = _but_at_most(global_branch, beyond(max(local_branch, limit)))
        bands.append(Band(beyond_limit, first_tokens))
        bands.append(Band(none, beyond_limit, always(limit), None))
    if triangle_offset:
        offset = _offset(local_branch + global_branch, triangle_offset)
        bands.append(Band(first_tokens, window, always(limit), None, offset))
    return tuple(bands)


def none(position: Tensor) -> Tensor:
    """As a first key: none is left out. As an end: none is in."""
    return torch.zeros_like(position)


@remembered
def beyond(distance: int) -> Places:
    """The number of keys that are at least so far away: as an end those, as a first key all that are nearer."""

    def number(position: Tensor) -> Tensor:
        return (position - distance + 1).clamp(min=0)

    return number


@remembered
def always(place: int) -> Places:
    """The same position for all."""

    def at(position: Tensor) -> Tensor:
        return torch.full_like(position, place)

    return at


def _at_most(place: int) -> Places:
    def at(position: Tensor) -> Tensor:
        return position.clamp(max=place)

    return at


def _but_at_most(count: int, number: Places) -> Places:
    def fewer(position: Tensor) -> Tensor:
        return number(position).clamp(max=count)

    return fewer


def _offset(attended: int, factor: float) -> Places:
    """`factor * log` of the number of tokens beyond those that are attended anyway."""

    def offset(position: Tensor) -> Tensor:
        return factor * (position + 1 - attended).clamp(min=1).double().log()

    return offset
