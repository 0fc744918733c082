"""The cache of a method that attends to all tokens: every key and value, and its memory grows with the text."""

from torch import Tensor

from ..decode.counted import CountedLayer, grown
from ..prefill.segment import KeysValues


class FullLayer(CountedLayer):
    """One layer's keys, as projected, and values: those of position p in column p, `[B, Hkv, C, .]`."""

    unbounded = CountedLayer.names

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys, self.values = key_states[:, :, :0].clone(), value_states[:, :, :0].clone()
        self.seen = [0] * key_states.shape[0]
        self.is_initialized = True

    @property
    def held(self) -> int:
        """How many tokens the next one attends to besides itself, which is the column it goes to."""
        return self.position

    def make_room(self, needed: int) -> None:
        self.keys, self.values = grown(self.keys, needed), grown(self.values, needed)

    def extend(self, key: Tensor, value: Tensor) -> KeysValues:
        """Store n new tokens, `[B, Hkv, n, .]`, at the rows' one position; returns those of all that are then held."""
        self.reserve(key, value)
        new = slice(self.held, self.held + key.shape[-2])
        self.keys[:, :, new], self.values[:, :, new] = key, value
        self.count(key.shape[-2])
        return self.keys[:, :, : new.stop], self.values[:, :, : new.stop]


class ChunkLayer(FullLayer):
    """One layer's keys and values where each chunk of s tokens begins anew: those of position p in column p mod s.

    C <= s, however long the stream.
    """

    unbounded = ()

    @property
    def held(self) -> int:
        return self.position % self.config.chunk

    def make_room(self, needed: int) -> None:
        limit = self.config.chunk
        self.keys, self.values = grown(self.keys, needed, limit), grown(self.values, needed, limit)

    def check_crop(self) -> None:
        newest, chunk = max(self.seen, default=0), self.config.chunk
        if newest > chunk:
            raise NotImplementedError(
                f"a cache that has read {newest} tokens, more than a chunk of {chunk}, has overwritten what cropping "
                "would bring back: assisted and prompt-lookup decoding end there"
            )
