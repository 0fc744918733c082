"""One token on the CPU in one call of C++ per layer, where `make` or pip has built it: `native/decode_step.cpp`.

Operation by operation it is thirty of them, which take several times as long as reading the cache does.
"""

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from ..config import AttentionLayer
from ..native.library import compiled
from .cache import LambdaLayer
from .step import DecodeStep

ARGUMENTS = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
DTYPES = (torch.float32, torch.bfloat16)
LANES = 16
"""The pass reads so many features at once: of heads of other widths it knows nothing."""
POINTERS, SIZES = 12 * ctypes.c_void_p, 10 * ctypes.c_int64

Pass = Callable[..., None]


def pass_for(query: Tensor, value: Tensor, layer: AttentionLayer, past: LambdaLayer, step: DecodeStep) -> Pass | None:
    """The compiled pass, where it is there and does all that this step is: rows at one position, keys of the ring and
    first tokens used as they are stored, scores that are neither capped nor biased, no middle.
    """
    first_rest = step.first is None or step.sinks == 0
    plain = step.turn is not None and step.window is None and step.bias is None and first_rest
    widths = query.shape[-1] % LANES == 0 and value.shape[-1] % LANES == 0
    if not (plain and widths and query.dtype in DTYPES and query.device.type == "cpu"):
        return None
    if layer.soft_cap is not None or layer.config.selects_top_k(layer.layer_idx) or is_in_torch_dispatch_mode():
        return None
    memory = past.keys, past.values, past.sink_keys, past.sink_values
    if not all(x.is_contiguous() and x.dtype == query.dtype == value.dtype for x in memory):
        return None
    return compiled("decode_step", ARGUMENTS)


def attend_compiled(
    run: Pass, query: Tensor, key: Tensor, value: Tensor, layer: AttentionLayer, past: LambdaLayer, step: DecodeStep
) -> Tensor:
    """Write the token into the ring and attend: `attend_one`, of rows that have all seen as many tokens."""
    query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
    output = query.new_empty(*query.shape[:3], value.shape[-1])
    learned = None if layer.sink_logit is None else layer.sink_logit.float().contiguous()
    tensors = query, key, value, past.keys, past.values, past.sink_keys, past.sink_values, *step.turn, learned, output
    heads, ring = step.heads, past.keys.shape[-2]
    slot = (past.seen[0] - 1) % layer.config.local_branch
    run(
        POINTERS(*(None if tensor is None else tensor.data_ptr() for tensor in tensors)),
        SIZES(
            *(query.shape[0], heads.key, heads.query // heads.key, heads.width, value.shape[-1]),
            *(ring, past.sink_keys.shape[-2], slot, step.slots, step.sinks),
        ),
        query.dtype == torch.bfloat16,
    )
    return output
