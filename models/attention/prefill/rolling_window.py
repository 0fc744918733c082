"""Prefill: queries in segments, over a rolling window of encoded keys, so that working memory stays flat in n."""

from dataclasses import dataclass

from torch import Tensor

from ..config import AttentionLayer
from ..decode.cache import LambdaLayer
from .backends import BACKENDS, Attend
from .choice import choose_backend
from .encoding import encode, encode_into
from .segment import KeysValues, Segment
from .within_window import attend_within_window


@dataclass(frozen=True)
class Before:
    """The tokens in front of those that are attended. position: of the first one that is attended.

    key, value: `[B, Hkv, <= L - 1, .]`, the last ones', oldest first; keys in the form that the cache stores.
    """

    position: int
    key: Tensor
    value: Tensor


def attend_prefill(
    query: Tensor, key: Tensor, value: Tensor, layer: AttentionLayer, past: LambdaLayer | None
) -> Tensor:
    """`lambda_attention` for any n. Shapes as there; all rows of `past` stand at one position."""
    new_tokens = query.shape[-2]
    sinks = _first_tokens(key, value, layer, past)
    before = Before(0, key[:, :, :0], value[:, :, :0]) if past is None else Before(past.position, *past.window())
    output = new_output(query, value)
    window = attend_after(before, query, key, value, layer, sinks, output)
    if past is not None:
        past.finish(*window.newest(min(new_tokens, layer.config.local_branch)), new_tokens)
    return output


def attend_after(
    before: Before,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layer: AttentionLayer,
    sinks: KeysValues,
    output: Tensor,
) -> "RollingWindow":
    """Write the attention of n tokens into output `[B, Hq, n, d_v]`; returns the window as it stands after them.

    query, key, value: as in `lambda_attention`. sinks: the first tokens' keys, as projected, and values.
    """
    parts = _parts(query, value, before.position, layer)
    incoming = max((part.stop - part.start for part, _ in parts), default=0)
    window = RollingWindow(before, key.shape[-2], incoming, layer)
    for part, attend in parts:
        window.extend(key[:, :, part], value[:, :, part])
        segment = Segment(query[:, :, part], before.position + part.start, *window.views(), *sinks)
        attend(segment, layer, output[:, :, part])
    return window


def new_output(query: Tensor, value: Tensor) -> Tensor:
    """`[B, Hq, n, d_v]`; on a GPU with all heads of a token side by side, as the output projection reads them."""
    if not query.is_cuda:
        return query.new_empty(*query.shape[:-1], value.shape[-1])
    batch, heads, count = query.shape[:3]
    return query.new_empty(batch, count, heads, value.shape[-1]).transpose(1, 2)


def _parts(query: Tensor, value: Tensor, start: int, layer: AttentionLayer) -> list[tuple[slice, Attend]]:
    """The parts of the queries that are attended at once, in turn, and how."""
    choice, new_tokens = choose_backend(layer, query, value), query.shape[-2]
    backend = BACKENDS[choice.backend]
    begins = choice.begins_dense and start == 0
    within = min(new_tokens, layer.config.local_branch) if begins else 0
    size = backend.segment_on_gpu if query.is_cuda else backend.segment
    parts = [(slice(0, within), attend_within_window)] if within else []
    for first in range(within, new_tokens, size):
        parts.append((slice(first, min(first + size, new_tokens)), backend.attend))
    return parts


def _first_tokens(key: Tensor, value: Tensor, layer: AttentionLayer, past: LambdaLayer | None) -> KeysValues:
    """Their keys, not encoded, and values."""
    count = layer.config.global_branch
    if past is None:
        return key[:, :, :count], value[:, :, :count]
    past.begin(key, value)
    return past.sink_keys[:, :, :count], past.sink_values[:, :, :count]


class _RollingBuffer:
    """The last `keep` columns of a stream and one more segment, `[B, H, ., d]`, in one allocation."""

    def __init__(self, context: Tensor, keep: int, incoming: int) -> None:
        rows, heads, self.filled, width = context.shape
        self.keep = keep
        self.storage = context.new_empty(rows, heads, keep + incoming, width)
        self.storage[:, :, : self.filled] = context

    def room(self, count: int) -> Tensor:
        """Where the next `count` columns are to be written."""
        if self.filled > self.keep:
            self.storage[:, :, : self.keep] = self.storage[:, :, self.filled - self.keep : self.filled].clone()
            self.filled = self.keep
        self.filled += count
        return self.storage[:, :, self.filled - count : self.filled]

    def extend(self, new: Tensor) -> None:
        self.room(new.shape[-2]).copy_(new)

    def view(self) -> Tensor:
        return self.storage[:, :, : self.filled]


class RollingWindow:
    """Keys and values that the next segment's windows can reach: the L - 1 tokens before it, and its own.

    new_tokens: how many are to come, at most `incoming` at once.
    """

    def __init__(self, before: Before, new_tokens: int, incoming: int, layer: AttentionLayer) -> None:
        self.layer = layer
        self.next_position, old_key = before.position, before.key
        room = min(layer.config.local_branch - 1, self.next_position + new_tokens), incoming
        self.value = _RollingBuffer(before.value, *room)
        self.raw = None
        if layer.config.caps_window:
            self.raw = _RollingBuffer(old_key, *room)
            old_key = encode(old_key, self.next_position - old_key.shape[-2], layer)
        self.key = _RollingBuffer(old_key, *room)

    def extend(self, key: Tensor, value: Tensor) -> None:
        encode_into(self.key.room(key.shape[-2]), key, self.next_position, self.layer)
        if self.raw is not None:
            self.raw.extend(key)
        self.value.extend(value)
        self.next_position += key.shape[-2]

    def views(self) -> tuple[int, Tensor, Tensor | None, Tensor]:
        """window_start, window_key, window_raw, window_value of a Segment."""
        raw = None if self.raw is None else self.raw.view()
        return self.next_position - self.key.filled, self.key.view(), raw, self.value.view()

    def newest(self, count: int) -> KeysValues:
        """The last `count` keys, in the form that the cache stores, and values."""
        stored = self.key if self.raw is None else self.raw
        return stored.view()[:, :, -count:], self.value.view()[:, :, -count:]
