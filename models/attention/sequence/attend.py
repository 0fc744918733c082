"""Λ-attention of one rank's stretch, in one layer.

What the others need is sent before anything is computed, and what comes from them is waited for last: the queries from
the stretch's L-th on reach no token before it but the first ones, and are attended meanwhile.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..config import AttentionLayer
from ..decode.cache import LambdaLayer
from ..prefill.encoding import encode
from ..prefill.rolling_window import Before, RollingWindow, attend_after, new_output
from ..prefill.segment import KeysValues
from .group import Stretch
from .messages import Mail, Message
from .stretches import Piece

Held = Callable[[Piece], KeysValues]
"""Gives what this rank has of a piece."""


def attend_stretch(
    query: Tensor, key: Tensor, value: Tensor, layer: AttentionLayer, past: LambdaLayer | None, stretch: Stretch
) -> Tensor:
    """`lambda_attention` of this rank's tokens, shapes as there, among those of all ranks.

    An empty stretch still has one column, which is no token; its output is zero. In `past` the tokens of all ranks are
    counted, the first ones are kept on every rank, and the window on the last.
    """
    tokens = stretch.tokens
    output = new_output(query, value)
    if not tokens:
        output.zero_()
    query, key, value = (x[:, :, :tokens] for x in (query, key, value))
    if past is not None:
        past.reserve(key[:, :, :0], value[:, :, :0])
        past.make_room(stretch.all.end)  # the same on all ranks, whatever their own tokens

    exchange = _Exchange(key, value, layer, past, stretch)
    sinks = exchange.first_tokens()
    window = _attend(query, key, value, layer, sinks, exchange, output[:, :, :tokens])
    exchange.finish()

    if past is not None:
        _keep(past, sinks, window, exchange, stretch)
    return output


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layer: AttentionLayer,
    sinks: KeysValues,
    exchange: "_Exchange",
    output: Tensor,
) -> RollingWindow | None:
    """Write the attention of the stretch's queries; returns the window after the newest, None for an empty stretch."""
    start, tokens, alone = exchange.start, query.shape[-2], layer.config.local_branch - 1
    window = None
    if exchange.needs_others and tokens > alone:
        rest = slice(alone, tokens)
        own = Before(start + alone, exchange.stored(slice(0, alone)), value[:, :, :alone])
        window = attend_after(
            own, query[:, :, rest], key[:, :, rest], value[:, :, rest], layer, sinks, output[:, :, rest]
        )
        tokens = alone
    if tokens:
        first = slice(0, tokens)
        before = Before(start, *exchange.window())
        beginning = attend_after(
            before, query[:, :, first], key[:, :, first], value[:, :, first], layer, sinks, output[:, :, first]
        )
        window = window or beginning
    return window


def _keep(
    past: LambdaLayer, sinks: KeysValues, window: RollingWindow | None, exchange: "_Exchange", stretch: Stretch
) -> None:
    """Have the cache hold what the next forward needs of this rank, and count the tokens of all ranks."""
    count = min(sinks[0].shape[-2], past.sink_keys.shape[-2])
    past.sink_keys[:, :, :count], past.sink_values[:, :, :count] = (x[:, :, :count] for x in sinks)
    past.lacks_window = not stretch.is_last
    if past.lacks_window:
        past.count(stretch.all.new_tokens)
        return
    newest = min(stretch.all.end, past.config.local_branch)
    kept = exchange.window() if window is None else window.newest(newest)
    past.finish(*kept, stretch.all.new_tokens)


class _Exchange:
    """The messages of one layer between this rank and the others."""

    def __init__(
        self, key: Tensor, value: Tensor, layer: AttentionLayer, past: LambdaLayer | None, stretch: Stretch
    ) -> None:
        self.key, self.value, self.layer, self.past, self.stretch = key, value, layer, past, stretch
        self.mail = Mail(stretch.group, key, value)
        self.start, local_branch = stretch.all.start(stretch.rank), layer.config.local_branch
        self._first_pieces = stretch.all.first_tokens(layer.config.global_branch)
        self._first = self._post(dict.fromkeys(range(stretch.ranks), self._first_pieces), self._projected)
        windows = {rank: stretch.all.window_of(rank, local_branch) for rank in range(stretch.ranks)}
        self._window_pieces = windows[stretch.rank]
        self._incoming = self._post(windows, self._stored_of)

    @property
    def needs_others(self) -> bool:
        """Whether some of the window in front of the stretch comes from another rank."""
        return any(piece.source != self.stretch.rank for piece in self._window_pieces)

    def first_tokens(self) -> KeysValues:
        """The first tokens' keys, as projected, and values, as far as there are any yet."""
        count, held = self.layer.config.global_branch, []
        if self.past is not None:
            count = min(count, self.stretch.all.before)
            held = [(self.past.sink_keys[:, :, :count], self.past.sink_values[:, :, :count])]
        return self._join(held + self._arrived(self._first_pieces, self._first, self._projected))

    def window(self) -> KeysValues:
        """The stored keys and values of the tokens in front of the stretch, once they are here."""
        return self._join(self._arrived(self._window_pieces, self._incoming, self._stored_of))

    def stored(self, part: slice) -> Tensor:
        """This rank's own keys, in the form that the cache stores."""
        key = self.key[:, :, part]
        return key if self.layer.config.caps_window else encode(key, self.start + part.start, self.layer)

    def finish(self) -> None:
        self.mail.finish()
        self.stretch.count_sent(self.mail.bytes_sent)

    def _post(self, pieces_of: dict[int, list[Piece]], held: Held) -> dict[Piece, Message]:
        """Start the messages of what each rank needs; returns those to this rank."""
        mine = self.stretch.rank
        for rank, pieces in pieces_of.items():
            for piece in pieces:
                if piece.source == mine and rank != mine:
                    self.mail.send(rank, *held(piece))
        coming = [piece for piece in pieces_of[mine] if piece.source != mine]
        for piece in coming:
            self.mail.receive(piece.source, piece.last - piece.first)
        return dict(zip(coming, self.mail.post()))

    def _arrived(self, pieces: list[Piece], messages: dict[Piece, Message], held: Held) -> list[KeysValues]:
        return [messages[piece].wait() if piece in messages else held(piece) for piece in pieces]

    def _projected(self, piece: Piece) -> KeysValues:
        part = slice(piece.first - self.start, piece.last - self.start)
        return self.key[:, :, part], self.value[:, :, part]

    def _stored_of(self, piece: Piece) -> KeysValues:
        if piece.cached:
            keys, values = self.past.window()
            oldest = self.stretch.all.before - keys.shape[-2]
            part = slice(piece.first - oldest, piece.last - oldest)
            return keys[:, :, part], values[:, :, part]
        part = slice(piece.first - self.start, piece.last - self.start)
        return self.stored(part), self.value[:, :, part]

    def _join(self, parts: list[KeysValues]) -> KeysValues:
        if not parts:
            return self.key[:, :, :0], self.value[:, :, :0]
        return parts[0] if len(parts) == 1 else tuple(torch.cat(x, -2) for x in zip(*parts))
