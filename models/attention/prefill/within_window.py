"""The first L tokens, where Λ-attention is causal attention: torch's fused kernel, as unconverted models use it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import AttentionLayer
from .encoding import encode
from .segment import Segment


def tokens_within_window(query: Tensor, start: int, layer: AttentionLayer) -> int:
    """The number of queries, which stand from position `start` on, to give to `attend_within_window`.

    On the CPU torch's kernel is the faster one in float32 only.
    """
    config = layer.config
    faster = query.is_cuda or query.dtype == torch.float32
    other_softmax = layer.positions.slopes is not None or layer.soft_cap is not None or layer.sink_logit is not None
    if start or config.backend != "auto" or config.caps_window or other_softmax or not faster:
        return 0
    return min(query.shape[-2], config.local_branch)


def attend_within_window(segment: Segment, layer: AttentionLayer, output: Tensor) -> None:
    """Write the attention of a segment from position 0 on into output `[B, Hq, m, d_v]`."""
    key, value = segment.window_key, segment.window_value
    group = segment.query.shape[1] // key.shape[1]
    if group > 1 and key.is_cuda and key.element_size() > 2:  # no fused kernel shares keys there: scores would be n x n
        key, value, group = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1), 1
    output.copy_(
        F.scaled_dot_product_attention(
            encode(segment.query, 0, layer),
            key,
            value,
            is_causal=True,
            scale=layer.scale,
            enable_gqa=group > 1,
        )
    )
