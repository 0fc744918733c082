"""What a backend gets to attend: consecutive queries and all the keys that they may reach."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Segment:
    """m consecutive queries and every key they may attend to. Keys are `[B, Hkv, ., d]`, values `[B, Hkv, ., d_v]`.

    query: `[B, Hq, m, d]`, not encoded. start: position of its first row. window_start: that of the first window key.
    padded_key: encoded at their positions, with `margin` columns before the first window key that no window reaches.
    padded_raw: the same, not encoded, where the limit falls inside the window. padded_value: their values.
    sink_key (not encoded), sink_value: the first tokens of the sequence.
    history: all keys (not encoded) and values from position 0 on, where the middle is attended.
    """

    query: Tensor
    start: int
    window_start: int
    margin: int
    padded_key: Tensor
    padded_raw: Tensor | None
    padded_value: Tensor
    sink_key: Tensor
    sink_value: Tensor
    history: tuple[Tensor, Tensor] | None

    @property
    def window_key(self) -> Tensor:
        return self.padded_key[:, :, self.margin :]

    @property
    def window_raw(self) -> Tensor | None:
        return None if self.padded_raw is None else self.padded_raw[:, :, self.margin :]

    @property
    def window_value(self) -> Tensor:
        return self.padded_value[:, :, self.margin :]
