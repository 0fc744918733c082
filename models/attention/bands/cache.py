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

    def make_room(self, needed: int) -> None:
        self.keys, self.values = grown(self.keys, needed), grown(self.values, needed)

    def extend(self, key: Tensor, value: Tensor) -> KeysValues:
        """Store n new tokens, `[B, Hkv, n, .]`, at the rows' one position; returns those of all tokens so far."""
        self.reserve(key, value)
        new = slice(self.position, self.position + key.shape[-2])
        self.keys[:, :, new], self.values[:, :, new] = key, value
        self.count(key.shape[-2])
        return self.keys[:, :, : new.stop], self.values[:, :, : new.stop]
