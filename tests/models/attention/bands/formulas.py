"""The methods written out densely from their papers' formulas, plain enough to check by eye; for the tests alone."""

import math
from fractions import Fraction
from functools import lru_cache

import torch
from einops import rearrange, repeat
from torch import Tensor

from models.attention.bands.config import BandsConfig


def felt_distance(i: int, j: int, config: BandsConfig) -> Fraction:
    """The relative position at which query i feels key j <= i."""
    d, w = i - j, config.window
    if config.method == "self_extend":  # section 3.2: neighbours, and groups shifted to begin where these end
        group = config.group
        return Fraction(d if d < w else i // group + (w - w // group) - j // group)
    if config.method == "rerope":
        return Fraction(min(d, w))
    if config.method == "leaky_rerope":
        return Fraction(d) if d < w else w + Fraction(d - w) / Fraction(config.factor)
    s, c = config.chunk, config.chunk + w
    if i // s == j // s:  # equation 3: within a chunk
        query = i % s
    elif i // s - j // s == 1:  # equation 5: [s, s + 1, ..., s + w - 1, c - 1, ..., c - 1]
        query = ([*range(s, s + w)] + [c - 1] * s)[i % s]
    else:  # equation 4
        query = c - 1
    return Fraction(query - j % s)


@lru_cache
def felt_distances(length: int, config: BandsConfig) -> Tensor:
    """float64 `[n, n]`, 0 where j > i."""
    rows = [[float(felt_distance(i, j, config)) if j <= i else 0.0 for j in range(length)] for i in range(length)]
    return torch.tensor(rows, dtype=torch.float64)


def dense_attention(query, key, value, config: BandsConfig, inv_freq, interleaved, scale, soft_cap=None, learned=None):
    """One sequence, float64: query `[Hq, n, d]`, key and value `[Hkv, n, .]`."""
    heads, length, _ = query.shape
    scores = dense_scores(query, key, config, inv_freq, interleaved, scale)
    if soft_cap is not None:
        scores = torch.where(scores > -torch.inf, soft_cap * (scores / soft_cap).tanh(), scores)
    if learned is not None:
        scores = torch.cat([scores, learned.double()[:, None, None].expand(-1, length, 1)], -1)
    return scores.softmax(-1)[..., :length] @ repeat(value.double(), "h n d -> (h g) n d", g=heads // value.shape[0])


def dense_scores(query, key, config: BandsConfig, inv_freq, interleaved, scale):
    """float64 `[Hq, n, n]`, -inf where j > i. A pair of features is a complex number, which RoPE multiplies by
    `exp(1j * distance * frequency)`.
    """
    query, key = query.double(), key.double()
    heads, length, _ = query.shape
    key = repeat(key, "h n d -> (h g) n d", g=heads // key.shape[0])
    factors = torch.tensor([_attention_scale(i, config.log_scale) for i in range(length)], dtype=torch.float64)
    query = query * factors[:, None]
    turn = torch.exp(1j * felt_distances(length, config)[..., None] * inv_freq)
    pairs = [_pairs(x, inv_freq.numel(), interleaved) for x in (query, key)]
    scores = torch.einsum("hif,ijf,hjf->hij", pairs[0], turn, pairs[1].conj()).real
    rest = slice(2 * inv_freq.numel(), None)
    scores = (scores + query[..., rest] @ key[..., rest].mT) * scale
    return scores.masked_fill(torch.ones(length, length).triu(1).bool(), -torch.inf)


def _pairs(x: Tensor, count: int, interleaved: bool) -> Tensor:
    features = "(pair two)" if interleaved else "(two pair)"
    return torch.view_as_complex(rearrange(x[..., : 2 * count], f"h n {features} -> h n pair two", two=2).contiguous())


def _attention_scale(i: int, length: int | None) -> float:
    """github.com/bojone/rerope: `((position_ids + 1).log() / log(training_length)).clip(1)`."""
    return max(1.0, math.log(i + 1) / math.log(length)) if length else 1.0


def distances_of(config, length: int) -> Tensor:
    """The same by the configuration's bands, float64 `[n, n]`; NaN where no band has a key, infinite where several."""
    places = torch.arange(length)
    felt, times = torch.full((length, length), torch.nan, dtype=torch.float64), torch.zeros(length, length)
    for band in config.bands:
        held = band.holds(places, places)
        felt, times = torch.where(held, band.distance(places, places).double(), felt), times + held
    return felt.masked_fill(times > 1, torch.inf)
