"""Λ-attention by torch's own flash attention: the window in one kernel, the first tokens joined by log-sum-exp.

The operator is what `torch.nn.attention.varlen` calls too. It is FlashAttention-2 as torch has it, until
`torch.nn.attention.activate_flash_attention_impl("FA3" | "FA4")` registers another one for it.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.attention import current_flash_attention_impl

from ..config import AttentionLayer
from .encoding import encode
from .first_tokens import Part, join_first_tokens
from .segment import Segment

WIDEST, WIDTH_MULTIPLE = 256, 8
"""The widest head that it takes, and what a head's width must be a multiple of."""
OLDEST_CAPABILITY = (8, 0)
MAJORS = {"FA3": (9,), "FA4": (9, 10)}
"""Major compute capabilities that an activated implementation runs on: on others torch's code of it is an error."""
WINDOW = {"window_size_left", "window_size_right"}
"""Arguments of the operator that its schema has from torch 2.11 to 2.13: how far a query sees, itself not counted."""


def attend_flash(segment: Segment, layer: AttentionLayer, output: Tensor) -> None:
    """Write the attention of the segment's queries into output `[B, Hq, m, d_v]`."""
    query = encode(segment.query, segment.start, layer)
    window = _window(query, segment.window_key, segment.window_value, layer)
    join_first_tokens(segment, layer, query, [window], output)


def _window(query: Tensor, key: Tensor, value: Tensor, layer: AttentionLayer) -> Part:
    """The last query is aligned with the last key; query heads share key heads without a copy of these."""
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    # Through the dispatcher: activate_flash_attention_impl overrides `_flash_attention_forward` for CUDA there.
    output, lse, *_ = torch.ops.aten._flash_attention_forward(
        query,
        key,
        value,
        None,
        None,
        query.shape[1],
        key.shape[1],
        0.0,
        False,
        False,
        scale=layer.scale,
        window_size_left=layer.config.local_branch - 1,
        window_size_right=0,
    )
    return output.transpose(1, 2), lse.unsqueeze(-1)


def implementation() -> str:
    """What stands behind the operator now."""
    return current_flash_attention_impl() or "FA2"


def lacks_flash(device: torch.device, dtype: torch.dtype) -> str | None:
    """What this device, this torch or this precision lacks, as "needs ..." goes on; None where it has all."""
    if device.type != "cuda" or torch.version.hip is not None:
        return "an NVIDIA GPU"
    if dtype not in (torch.float16, torch.bfloat16):
        return "half precision"
    if not torch.backends.cuda.is_flash_attention_available() or not _has_window():
        return f"a torch that has flash attention with a window, which {torch.__version__} has not"
    capability, named = torch.cuda.get_device_capability(device), implementation()
    if capability < OLDEST_CAPABILITY:
        return "a GPU of compute capability 8.0 or newer"
    if capability[0] not in MAJORS.get(named, capability):
        majors = " or ".join(f"{major}.0" for major in MAJORS[named])
        return f"a GPU of compute capability {majors} for {named}, which is activated"
    return None


@lru_cache(maxsize=1)
def _has_window() -> bool:
    operator = getattr(torch.ops.aten, "_flash_attention_forward", None)
    return operator is not None and {x.name for x in operator.default._schema.arguments} >= WINDOW
