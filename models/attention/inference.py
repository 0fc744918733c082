"""A function that is computed and never differentiated."""

from collections.abc import Callable

import torch
from torch import Tensor


class InferenceOnly(torch.autograd.Function):
    """Runs a function without recording it; differentiating it says why that is not possible."""

    @staticmethod
    def forward(ctx, run: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        with torch.autocast(tensors[0].device.type, enabled=False):  # it would change single products inside
            return run(*tensors)

    @staticmethod
    def backward(ctx, *gradients: Tensor):
        raise RuntimeError(
            "Λ-attention is for inference: it has no gradient (revert_model gives the trainable model back)"
        )
