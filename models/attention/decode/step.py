"""The part of decoding one token per row that all layers share: it follows from the rows' positions.

The positions are a tensor on the device, and no shape and no Python number depends on what they are: with all slots of
the ring and all first tokens as columns, torch.compile and CUDA graphs take a whole step (`models/decode_graph.py`).
It is made of tuples: torch 2.11's compiler loses the fields of a frozen dataclass that it saw being made.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import LambdaConfig
from ..positions import PositionEncoding, RotaryPositions, Table
from ..sinks import felt_distance


@dataclass(frozen=True)
class Heads:
    """The heads of one attention layer, which scores `scale * query . key`."""

    query: int
    key: int
    width: int
    scale: float

    @classmethod
    def of(cls, query: Tensor, key: Tensor, scale: float) -> "Heads":
        """query `[B, Hq, n, d]`, key `[B, Hkv, n, d]`."""
        return cls(query.shape[1], key.shape[1], query.shape[-1], scale)


def at_least_float32(x: Tensor) -> torch.dtype:
    """The precision of sums over x: float64 for float64, else float32."""
    return x.dtype if x.dtype == torch.float64 else torch.float32


class Turn(NamedTuple):
    """RoPE of several heads at once, each at a position of its own: `x * cos + x[swapped] * sin`.

    cos, sin: float32 `[B or 1, H, 1, d]`. swapped: int64 `[d]`, the other feature of each pair.
    """

    cos: Tensor
    sin: Tensor
    swapped: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """x `[B, H, 1, d]`; returns at least float32."""
        return torch.addcmul(x * self.cos, x.index_select(-1, self.swapped), self.sin)


class DecodeStep(NamedTuple):
    """One decoding step, as a layer's tensors meet it in `models.attention.decode.one_token`.

    position, slot: int64 `[B or 1]`, where the token stands, and where in the ring it goes.
    slots, sinks: the columns that are scored, as many slots of the ring and first tokens.
    turn: of the query as the window feels it, the query as the first tokens feel it, and the key, side by side; None
        without RoPE.
    window, first: to encode the keys of the ring, and those of the first tokens, anew; None where they are used as
        they are stored. `[B or 1, 1, slots or sinks, rotary_dim / 2]`.
    bias: float32 `[B or 1, Hkv or 1, g or 1, slots + sinks]` to add to the scores; None if all columns are attended.
    """

    heads: Heads
    position: Tensor
    slot: Tensor
    slots: int
    sinks: int
    turn: Turn | None
    window: Table | None
    first: Table | None
    bias: Tensor | None

    def encode(self, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The scaled query as the window and as the first tokens feel it, and the key at its position."""
        if self.turn is None:
            near = query * self.heads.scale
            return near, near.to(at_least_float32(near)), key
        turned = self.turn(torch.cat([query, query, key], 1))
        near, far, key = turned.split([self.heads.query, self.heads.query, self.heads.key], 1)
        return near.to(query.dtype), far, key.to(query.dtype)


def decode_step(
    config: LambdaConfig,
    encoding: PositionEncoding,
    heads: Heads,
    position: Tensor,
    slots: int,
    sinks: int,
    complete: bool = False,
) -> DecodeStep:
    """The step of the tokens at `position`, int64 `[B or 1]`, over that many slots and first tokens.

    complete: that every row attends to all of these columns is known. A key felt at distance f is one at position
    `i - f`: that is where keys are encoded that the limit, or counting inside the cache, brings nearer.
    """
    column = position[:, None]
    rotary = isinstance(encoding, RotaryPositions)
    turn = _turn(config, encoding, heads, column) if rotary else None
    window = first = bias = None
    distance = (column - torch.arange(slots, device=position.device)) % config.local_branch
    beyond = column - torch.arange(sinks, device=position.device)
    if rotary and config.caps_window:
        window = encoding.table((column - config.capped(distance))[:, None])
    if rotary and not _sinks_at_limit(config):
        first = encoding.table((column - felt_distance(beyond, config))[:, None])
    if not rotary or not complete:
        felt = torch.cat([config.capped(distance), felt_distance(beyond, config)], -1)
        attended = torch.cat([distance <= column, beyond >= config.local_branch], -1)
        bias = _bias(encoding, heads, attended, felt)
    return DecodeStep(heads, position, position % config.local_branch, slots, sinks, turn, window, first, bias)


def _sinks_at_limit(config: LambdaConfig) -> bool:
    """Whether first tokens beyond the window are all beyond the limit: the query turns, and their keys rest."""
    return config.limit_distance is not None and config.limit_distance <= config.local_branch


def _turn(config: LambdaConfig, encoding: RotaryPositions, heads: Heads, position: Tensor) -> Turn:
    """position: int64 `[B or 1, 1]`."""
    at_limit = _sinks_at_limit(config)
    far = torch.full_like(position, config.limit_distance) if at_limit else position
    counts = (heads.query, heads.query, heads.key)
    positions = torch.cat([x.expand(-1, count) for x, count in zip((position, far, position), counts)], 1)
    cos, sin = encoding.table(positions)
    if at_limit:  # keys that rest carry no scaling: the query has theirs too
        for table in (cos, sin):
            table[:, heads.query : 2 * heads.query] *= encoding.scaling
    cos, sin, swapped = _full_width(encoding, cos, sin, heads.width)
    scales = torch.ones(sum(counts), 1, device=position.device)
    scales[: 2 * heads.query] = heads.scale
    return Turn((cos * scales).unsqueeze(2), (sin * scales).unsqueeze(2), swapped)


def _full_width(encoding: RotaryPositions, cos: Tensor, sin: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """cos and sin `[..., rotary_dim / 2]` for each of `width` features, and the other feature of its pair."""
    rotary, half = encoding.rotary_dim, encoding.rotary_dim // 2
    feature = torch.arange(rotary, device=cos.device)
    if encoding.interleaved:
        pair, second, other = feature // 2, feature % 2, feature ^ 1
    else:
        pair, second, other = feature % half, feature // half, (feature + half) % rotary
    cos, sin = F.pad(cos[..., pair], (0, width - rotary), value=1.0), sin[..., pair] * (2 * second - 1)
    rest = torch.arange(rotary, width, device=cos.device)
    return cos, F.pad(sin, (0, width - rotary)), torch.cat([other, rest])


def _bias(encoding: PositionEncoding, heads: Heads, attended: Tensor, felt: Tensor) -> Tensor:
    """attended, felt: `[B or 1, columns]`."""
    if encoding.slopes is None:
        bias = torch.zeros(attended.shape, device=attended.device)[:, None, None]
    else:
        bias = -encoding.slopes_on(felt.device).view(heads.key, -1, 1) * felt[:, None, None].float()
    return bias.masked_fill(~attended[:, None, None], float("-inf"))
