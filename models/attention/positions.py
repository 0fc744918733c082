"""Encodings of positions: rotary embeddings (RoPE) and linear biases (ALiBi).

Positions are int64 and angles float64 until after cos/sin: float32 holds integers only to 1.6e7, and `position *
inv_freq` loses its fraction long before. Tables are kept in float32 and applied in float32 whatever the dtype of the
model.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock

import torch
from torch import Tensor
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from .copies import Copies

Table = tuple[Tensor, Tensor]
"""cos and sin, float32, `[..., positions, rotary_dim / 2]`."""
Places = Callable[[Tensor], Tensor]
"""Where something of a position, int64, is encoded: a position or a fraction of one. The same
function has the same tables."""

TABLE_BLOCK = 2048
CACHED_BLOCKS = 32
"""Tables are computed this many positions at once on the CPU; this many are kept beside those of a forward."""


class _RangeTables:
    """Tables by range of positions (its first, how many, the device, where they are encoded): those used since the
    forward before the last, as many as have `room` for each way to encode.

    Layer after layer goes through the positions of a forward from the first one on: with room for fewer than it has,
    each would find none of them. A stream moves on and never comes back: without `begin_forward` it would fill
    the room.
    """

    def __init__(self, compute: Callable[[int, int, torch.device, Places | None], Table]) -> None:
        self._compute = compute
        self._tables: OrderedDict[tuple, Table] = OrderedDict()
        self._used: set[tuple] = set()
        self._places: set[Places | None] = {None}
        self.room = CACHED_BLOCKS * TABLE_BLOCK
        self._lock = Lock()  # forwards of several threads share the tables

    def __call__(self, start: int, count: int, device: torch.device, places: Places | None = None) -> Table:
        key = start, count, device, places
        with self._lock:
            self._places.add(places)
            if key not in self._tables:
                self._tables[key] = self._compute(*key)
                self._make_room()
            self._tables.move_to_end(key)
            self._used.add(key)
            return self._tables[key]

    def _make_room(self) -> None:
        positions = sum(count for _, count, _, _ in self._tables)
        while positions > self.room * len(self._places) and len(self._tables) > 1:
            (_, count, _, _), _ = self._tables.popitem(last=False)
            positions -= count

    def begin_forward(self, rows: int, columns: int) -> None:
        """Drop what the forward that has ended did not use, and make room for one over so many rows and columns."""
        blocks_of_row = columns // TABLE_BLOCK + 2  # it may begin and end within one
        with self._lock:
            self.room = (rows * blocks_of_row + CACHED_BLOCKS) * TABLE_BLOCK
            for key in self._tables.keys() - self._used:
                del self._tables[key]
            self._used.clear()


@dataclass(frozen=True, eq=False)
class RotaryPositions:
    """RoPE (arXiv 2104.09864) on the first `rotary_dim` features of a head.

    inv_freq: float64 `[rotary_dim / 2]`, radians per position.
    scaling: factor on cos and sin (YaRN's and LongRoPE's attention factor); a score therefore carries its square.
    interleaved: feature pairs are (0, 1), (2, 3), ... as in GPT-J, instead of (0, h), (1, h + 1), ... as in Llama.
    """

    inv_freq: Tensor
    scaling: float = 1.0
    interleaved: bool = False

    slopes = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "_range_tables", _RangeTables(self._compute_range_table))
        object.__setattr__(self, "_inv_freq_on", Copies(self.inv_freq))

    def __deepcopy__(self, memo: dict) -> "RotaryPositions":
        return self

    def __reduce__(self) -> tuple:
        return RotaryPositions, (self.inv_freq, self.scaling, self.interleaved)

    def begin_forward(self, rows: int, columns: int) -> None:
        """Forget tables that the last forward did not use; to be called before each forward of a model.

        rows, columns: of the tokens that it reads, or encodes anew. Its tables are all kept until the next one, one for
        all layers.
        """
        self._range_tables.begin_forward(rows, columns)

    def on(self, device: torch.device) -> "RotaryPositions":
        """The same, with its tensors there."""
        return replace(self, inv_freq=self.inv_freq.to(device))

    def same_as(self, other: "PositionEncoding") -> bool:
        """Whether two encodings are one, so that one's tables serve both."""
        if not isinstance(other, RotaryPositions):
            return False
        kinds = (self.scaling, self.interleaved) == (other.scaling, other.interleaved)
        return kinds and torch.equal(self.inv_freq, other.inv_freq)

    @property
    def rotary_dim(self) -> int:
        return 2 * self.inv_freq.numel()

    def table(self, positions: Tensor) -> Table:
        """cos and sin of `positions` (int64, any shape), on their device, with `scaling` applied."""
        angles = positions.to(torch.float64).unsqueeze(-1) * self._inv_freq_on(positions.device)
        return (angles.cos() * self.scaling).float(), (angles.sin() * self.scaling).float()

    def range_table(self, start: int, count: int, device: torch.device, places: Places | None = None) -> Table:
        """`table` of the positions start .. start + count - 1, or of where `places` has them, which layers and steps
        share.

        On the CPU cut from blocks, for segments are short there and steps are many; on a GPU each range is kept as it
        is, for to put it together from blocks would be launches in every layer.
        """
        if device.type == "cuda":
            return self._range_tables(start, count, device, places)
        parts = []
        for block in range(start // TABLE_BLOCK, max(start, start + count - 1) // TABLE_BLOCK + 1):
            first = block * TABLE_BLOCK
            part = slice(max(start - first, 0), min(start + count - first, TABLE_BLOCK))
            parts.append([x[part] for x in self._range_tables(first, TABLE_BLOCK, device, places)])
        cos, sin = parts[0] if len(parts) == 1 else (torch.cat(x) for x in zip(*parts))
        return cos, sin

    def _compute_range_table(self, start: int, count: int, device: torch.device, places: Places | None) -> Table:
        positions = torch.arange(start, start + count, device=device)
        return self.table(positions if places is None else places(positions))

    def rotate(self, x: Tensor, table: Table, scale: float = 1.0) -> Tensor:
        """`scale * R x` for x `[..., positions, head_dim]`; the features beyond `rotary_dim` are not rotated."""
        cos, sin = table
        half = cos.shape[-1]
        if self.interleaved:
            first, second = slice(0, 2 * half, 2), slice(1, 2 * half, 2)
        else:
            first, second = slice(0, half), slice(half, 2 * half)
        out = torch.empty(x.shape, dtype=torch.float32, device=x.device)
        wide = x.float() if scale == 1.0 else x.float() * scale
        a, b = wide[..., first], wide[..., second]
        crossed = b * sin
        torch.mul(a, cos, out=out[..., first]).sub_(crossed)
        torch.mul(a, sin, out=crossed)
        torch.mul(b, cos, out=out[..., second]).add_(crossed)
        if 2 * half < x.shape[-1]:
            out[..., 2 * half :] = wide[..., 2 * half :]
        return out.to(x.dtype)

    def at(self, x: Tensor, start: int, latest: int | None = None, scale: float = 1.0) -> Tensor:
        """Query or key x `[..., n, head_dim]` rotated to positions start .. start + n - 1, none beyond `latest`.

        Times `scale`, before it is rounded to its dtype.
        """
        return self.rotate(x, self.table_at(start, x.shape[-2], x.device, latest), scale)

    def table_at(self, start: int, count: int, device: torch.device, latest: int | None = None) -> Table:
        """The table that `at` applies, for `count` positions, or for one where all are the same."""
        if latest is None or start + count - 1 <= latest:
            return self.range_table(start, count, device)
        if start >= latest:
            return self.range_table(latest, 1, device)
        return self.table(torch.arange(start, start + count, device=device).clamp(max=latest))

    def at_distance(self, query: Tensor, distance: int, scale: float = 1.0) -> Tensor:
        """`R_distance q`: its product with an unrotated key is the score at that relative distance, times `scale`.

        With a negative distance for a key: its product with an unrotated query is.
        """
        return self.rotate(query, self.table_of_distance(distance, query.device), scale)

    def table_of_distance(self, distance: int, device: torch.device) -> Table:
        """The table that `at_distance` applies."""
        cos, sin = self.range_table(abs(distance), 1, device)
        turned = self.scaling if distance >= 0 else -self.scaling
        return cos * self.scaling, sin * turned


class _NotRotated:
    """Queries and keys stay as they are, wherever they are."""

    def begin_forward(self, rows: int, columns: int) -> None:
        """Nothing to forget."""

    def at(self, x: Tensor, start: int, latest: int | None = None, scale: float = 1.0) -> Tensor:
        return x if scale == 1.0 else x * scale

    def at_distance(self, query: Tensor, distance: int, scale: float = 1.0) -> Tensor:
        return self.at(query, distance, scale=scale)


@dataclass(frozen=True)
class NoPositions(_NotRotated):
    """No positions at all (NoPE): a score does not depend on the distance, so a limit changes nothing."""

    slopes = None

    def on(self, device: torch.device) -> "NoPositions":
        return self

    def same_as(self, other: "PositionEncoding") -> bool:
        return self == other


@dataclass(frozen=True, eq=False)
class AlibiPositions(_NotRotated):
    """ALiBi (arXiv 2108.12409): `-slope * distance` is added to a score.

    slopes: float32 `[query_heads]`, positive. slopes_on(device): the same there, copied once.
    """

    slopes: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "slopes_on", Copies(self.slopes))

    def __deepcopy__(self, memo: dict) -> "AlibiPositions":
        return self

    def __reduce__(self) -> tuple:
        return AlibiPositions, (self.slopes,)

    def on(self, device: torch.device) -> "AlibiPositions":
        """The same, with its tensors there."""
        return replace(self, slopes=self.slopes.to(device))

    def same_as(self, other: "PositionEncoding") -> bool:
        return isinstance(other, AlibiPositions) and torch.equal(self.slopes, other.slopes)


PositionEncoding = RotaryPositions | AlibiPositions | NoPositions


def rotary_from_config(
    config,
    rotary_module,
    limit_distance: int | None,
    interleaved: bool = False,
    layer_type: str | None = None,
) -> RotaryPositions:
    """The rotary encoding that a Transformers config describes, with every `rope_type` it knows.

    rotary_module: the model's own rotary embedding module; its class holds the default formula. layer_type: the kind of
    layer, where the configuration has rotary parameters for each.
    limit_distance: the farthest distance felt. Types whose frequencies depend on the length ("dynamic", "longrope") are
    fixed to those of that length, so that a stream is the same however it is cut into chunks.
    Raises ValueError for a "dynamic" type without a limit: its frequencies would change along the stream.
    """
    by_kind = config.rope_parameters.get(layer_type)
    rope_type = (by_kind or config.rope_parameters)["rope_type"]
    kind = {"layer_type": layer_type} if by_kind else {}
    if rope_type == "default":
        inv_freq, scaling = rotary_module.compute_default_rope_parameters(config, **kind)
    else:
        inv_freq, scaling = ROPE_INIT_FUNCTIONS[rope_type](
            config, "cpu", seq_len=_felt_length(rope_type, limit_distance), **kind
        )
    return RotaryPositions(inv_freq.detach().double().cpu(), float(scaling), interleaved)


def _felt_length(rope_type: str, limit_distance: int | None) -> int | None:
    if limit_distance is not None:
        return limit_distance
    if rope_type == "dynamic":
        raise ValueError(
            "RoPE scaling 'dynamic' needs a limit_distance: without one its frequencies grow with the stream"
        )
    return 2**31 if rope_type == "longrope" else None


def alibi_slopes(heads: int, alibi_bias_max: float = 8) -> Tensor:
    """The slopes of ALiBi, float32 `[heads]`: `2 ** -(bias_max * i / P)` for the power of two P >= heads."""
    power = 2 ** math.ceil(math.log2(heads))
    slopes = 2.0 ** -(torch.arange(1, power + 1, dtype=torch.float64) * alibi_bias_max / power)
    if power != heads:
        slopes = torch.cat([slopes[1::2], slopes[::2]])[:heads]
    return slopes.float()
