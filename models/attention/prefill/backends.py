"""The ways to attend within a segment, by name."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..config import AttentionLayer
from .blockwise import attend_blockwise, attend_blockwise_by_onednn
from .edges import attend_edges
from .flash import attend_flash
from .flex import attend_flex
from .segment import Segment

Attend = Callable[[Segment, AttentionLayer, Tensor], None]
"""Writes the attention of a segment's queries into a tensor `[B, Hq, m, d_v]`."""


@dataclass(frozen=True)
class Backend:
    """A way to attend within a segment.

    segment, segment_on_gpu: queries at once, what the rolling window grows by. A GPU would wait for small ones.
    """

    segment: int
    segment_on_gpu: int
    attend: Attend


BACKENDS = {
    "flash": Backend(8192, 65_536, attend_flash),
    "flex": Backend(8192, 65_536, attend_flex),
    "edges": Backend(8192, 8192, attend_edges),
    "blockwise": Backend(4096, 8192, attend_blockwise),
    "onednn": Backend(4096, 8192, attend_blockwise_by_onednn),
}
