"""Λ-attention by each way to compute it."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

from torch import Tensor

from benchmarks.alternatives.methods import OURS
from benchmarks.measuring.shapes import Shape
from models.attention.prefill.choice import choose_backend
from models.attention.settings import BACKENDS
from models.lambda_attention import lambda_attention
from utils.errors import UserError


def by_backend(shape: Shape, query: Tensor, key: Tensor, value: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Λ-attention by each backend that can attend to these tensors; flex only where it is compiled, on a GPU."""
    found: dict[str, Callable[[], Tensor]] = {}
    for backend in BACKENDS[1:]:
        layer = shape.layer(replace(shape.config, backend=backend))
        with suppress(UserError):
            choose_backend(layer, query, value)
            found[f"{OURS}, {backend}"] = partial(lambda_attention, query, key, value, layer)
    if not query.is_cuda:
        del found[f"{OURS}, flex"]
    return found
