"""The first L tokens, where Λ-attention is causal attention: torch's fused kernel, as unconverted models use it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import AttentionLayer
from .segment import Segment


def tokens_within_window(query: Tensor, start: int, layer: AttentionLayer) -> int:
    """The number of queries, which stand from position `start` on, to give to `attend_within_window`.

    On the CPU torch's kernel is the faster one in float32 only.
    """
    config = layer.config
    faster = query.is_cuda or query.dtype == torch.float32
    if start or config.backend != "auto" or config.caps_window or layer.positions.slopes is not None or not faster:
        return 0
    return min(query.shape[-2], config.local_branch)


def attend_within_window(segment: Segment, layer: AttentionLayer, output: Tensor) -> None:
    """Write the attention of a segment from position 0 on into output `[B, Hq, m, d_v]`."""
    output.copy_(
        F.scaled_dot_product_attention(
            layer.positions.at(segment.query, 0),
            segment.window_key,
            segment.window_value,
            is_causal=True,
            scale=layer.scale,
            enable_gqa=segment.query.shape[1] != segment.window_key.shape[1],
        )
    )
