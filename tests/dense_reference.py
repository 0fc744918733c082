"""Λ-attention written out densely from its definition, plain enough to check by eye; for the tests alone."""

import torch
from einops import rearrange, repeat
from torch import Tensor

from models.attention.config import LambdaConfig


def dense_lambda_attention(
    query, key, value, config: LambdaConfig, rotary=None, slopes=None, scale=1.0, soft_cap=None, sink_logit=None
) -> Tensor:
    """One sequence, float64: query `[Hq, n, d]`, key and value `[Hkv, n, d]`; rotary(x, position) rotates `[Hkv, d]`
    vectors. sink_logit: `[Hq]`.
    """
    query, key, value = query.double(), key.double(), value.double()
    heads, length, _ = query.shape
    key, value = (repeat(x, "h n d -> (h g) n d", g=heads // x.shape[0]) for x in (key, value))
    output = torch.zeros(heads, length, value.shape[-1], dtype=torch.float64)
    for i in range(length):
        scores = torch.full((heads, i + 1), -torch.inf, dtype=torch.float64)
        middle = [j for j in range(i + 1) if j >= config.global_branch and i - j >= config.local_branch]
        for j in range(i + 1):
            if j in middle and not config.triangle_offset:
                continue
            distance = _distance(i, j, config, j in middle)
            scores[:, j] = _score(query[:, i], key[:, j], distance, rotary, slopes) * scale
            if soft_cap is not None:
                scores[:, j] = soft_cap * (scores[:, j] / soft_cap).tanh()
            if slopes is not None:
                scores[:, j] -= slopes.double() * distance
            if j in middle:
                scores[:, j] -= config.triangle_offset * torch.tensor(float(len(middle))).log()
        if config.top_k is not None and i == length - 1 and len(middle) >= config.top_k.k:
            _add_top_k(scores, query[:, i], key, middle, config.top_k, rotary, slopes, scale, soft_cap)
        if sink_logit is not None:
            scores = torch.cat([scores, sink_logit.double()[:, None]], -1)
        output[:, i] = torch.einsum("hj,hjd->hd", scores.softmax(-1)[:, : i + 1], value[:, : i + 1])
    return output


def _distance(i: int, j: int, config: LambdaConfig, is_middle: bool) -> int:
    """As felt; a first token counted inside the cache lies before a window of L - 1 keys and the query."""
    if config.sink_positions == "cache" and i - j >= config.local_branch:
        return min(i, config.global_branch + config.local_branch - 1) - j
    limit = config.limit_distance
    return limit if limit is not None and (i - j >= limit or is_middle) else i - j


def _score(query, key, distance, rotary, slopes):
    return ((query if rotary is None else rotary(query, distance)) * key).sum(-1)


def _add_top_k(scores, query, key, middle, top_k, rotary, slopes, scale, soft_cap):
    for head in range(scores.shape[0]):
        candidates = _score(query[head], key[head, middle], top_k.insert_at, rotary, slopes) * scale
        if soft_cap is not None:
            candidates = soft_cap * (candidates / soft_cap).tanh()
        if slopes is not None:
            candidates = candidates - slopes[head].double() * top_k.insert_at
        best = candidates.topk(top_k.k).indices
        scores[head, torch.tensor(middle)[best]] = candidates[best]


def half_split_rotary(inv_freq: Tensor, interleaved: bool = False):
    """`R_distance x` in float64, from the complex plane."""
    features = "(half two)" if interleaved else "(two half)"

    def rotate(x: Tensor, distance: int) -> Tensor:
        half = inv_freq.numel()
        rotated, rest = x[..., : 2 * half], x[..., 2 * half :]
        pairs = rearrange(rotated, f"... {features} -> ... half two", two=2)
        turned = torch.view_as_complex(pairs.contiguous()) * torch.exp(1j * inv_freq * distance)
        back = rearrange(torch.view_as_real(turned), f"... half two -> ... {features}")
        return torch.cat([back, rest], -1)

    return rotate
