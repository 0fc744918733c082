"""The first L tokens, where Λ-attention is causal attention: torch's fused kernel, as unconverted models use it."""

import torch.nn.functional as F
from torch import Tensor

from ..config import AttentionLayer
from .encoding import encode
from .segment import Segment


def lacks_dense(layer: AttentionLayer, query: Tensor, value: Tensor) -> str | None:
    """What torch's causal attention lacks for a layer, within a window; None where it lacks nothing."""
    if not query.is_cuda and query.shape[-1] != value.shape[-1]:
        return "keys and values of one width"  # else all scores at once
    if layer.config.caps_window:
        return "a limit that is not inside the window"
    other_softmax = layer.positions.slopes is not None or layer.soft_cap is not None or layer.sink_logit is not None
    return "a softmax of the scores alone" if other_softmax else None


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
