"""Part 2: how fast is one layer over a whole sequence, and where does its time go?

Rates are FLOP/s of exactly the pairs that are attended, `4 * d * heads * pairs`: with dense attention `n (n + 1) / 2` a
head, in a window `min(i + 1, L)` for query i, with Λ also `min(G, i + 1 - L)` first tokens beyond it. `of_products` is
the share that this is of the device's own rate of matrix products.

Backends encode positions and join the first tokens, which counts. "kernel" is what a fused kernel does for the window
alone on tensors that are encoded already, "window" the whole way of a backend without first tokens, and "no positions"
that without rotating: the differences are what first tokens with their join, and what rotating takes. "rotation" and
"join" are these two by themselves, as backends with a fused kernel do them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, flex_attention

from benchmarks.gpu_parts.case import Case, Found, Part
from benchmarks.gpu_parts.sizes import Plan
from benchmarks.measuring.accelerator import Accelerator
from benchmarks.measuring.shapes import Shape
from models.attention.compiled import compile_whole, run_fused
from models.attention.prefill.encoding import encode
from models.attention.prefill.first_tokens import merge_into
from models.attention.prefill.flex import band_mask
from models.attention.settings import ON_GPU
from models.lambda_attention import AttentionLayer, lambda_attention
from utils.errors import UserError

PRODUCTS, DENSE, ROTATION, JOIN = "matrix products", "dense", "rotation", "join"
FLASH_KERNEL, FLEX_KERNEL = "kernel flash", "kernel flex"
WINDOW, NO_POSITIONS = "window", "no positions"
SECONDS, SECONDS_TO_COMPILE = 5.0, 20.0
SLOWEST = 0.4
"""Share of the rate of matrix products at which a case is expected to run, to tell how long it takes."""
RUNS = 2
"""Runs of a case that takes long: one to warm up, one timed."""
SLOW = 2.0
"""Seconds of a run from which on it is not repeated for its memory."""
PRODUCT_REPEATS = 15
Tensors = list[Tensor]


@dataclass(frozen=True)
class Method:
    """Something to time. make: from the shape's random query, key and value, what to run. pairs: attended a head; 0
    where nothing is.

    compiled: whether kernels may have to be compiled first. profiled: whether its kernels are listed.
    """

    name: str
    make: Callable[[Shape, Tensors], Callable[[], object]]
    pairs: int
    compiled: bool = False
    profiled: bool = False


def cases(plan: Plan) -> Iterator[Case]:
    """The device's own rate, then each length with each method; what takes longest, dense attention, last."""
    yield Case(PRODUCTS, SECONDS, partial(measure_products, plan))
    last: list[Case] = []
    for length in plan.sizes.layer_lengths:
        for shape in plan.sizes.shapes:
            for method in methods(shape, length):
                case = _case(plan, shape, length, method)
                if case.seconds > SECONDS_TO_COMPILE:
                    last.append(case)
                else:
                    yield case
    yield from last


def case_name(shape: Shape, length: int, method: str) -> str:
    return f"{shape.label}, {length:,} tokens, {method}"


def _case(plan: Plan, shape: Shape, length: int, method: Method) -> Case:
    run = RUNS * flops(shape, method.pairs) / (SLOWEST * rate_of_products(plan))
    least = SECONDS_TO_COMPILE if method.compiled and plan.device == "cuda" else SECONDS
    seconds = least if run < least / 2 else SECONDS + run
    return Case(case_name(shape, length, method.name), seconds, partial(measure, plan, shape, length, method))


def flops(shape: Shape, pairs: int) -> int:
    """Operations of the two products over so many pairs a head."""
    return 4 * shape.head_dim * shape.query_heads * pairs


def methods(shape: Shape, length: int) -> Iterator[Method]:
    """All methods of a shape at a length, most valuable first."""
    window = replace(shape, global_branch=0)
    whole, within = shape.attended_pairs(length), window.attended_pairs(length)
    backends = ON_GPU[1:]
    yield Method(DENSE, dense, length * (length + 1) // 2)
    yield Method(FLASH_KERNEL, flash_kernel, within)
    for backend in backends:
        yield Method(backend, partial(attend, backend=backend), whole, compiled=True, profiled=True)
    for backend in backends:
        yield Method(f"{backend}, {WINDOW}", partial(attend, backend=backend, first=False), within, compiled=True)
    for backend in backends:
        bare = partial(attend, backend=backend, first=False, rotated=False)
        yield Method(f"{backend}, {WINDOW}, {NO_POSITIONS}", bare, within, compiled=True)
    yield Method(ROTATION, rotation, 0, compiled=True)
    yield Method(JOIN, join, 0, compiled=True)
    yield Method(FLEX_KERNEL, flex_kernel, within, compiled=True)


def rate_of_products(plan: Plan) -> float:
    """FLOP/s of the device in square matrix products by `torch.mm`."""
    return _rate_of_products(plan.device, plan.sizes.product, plan.sizes.budget)


@lru_cache(maxsize=1)
def _rate_of_products(device: str, size: int, budget: float) -> float:
    left, right, out = (torch.randn(size, size, device=device, dtype=Plan.dtype) for _ in range(3))
    timing = Accelerator(device).time(partial(torch.mm, left, right, out=out), PRODUCT_REPEATS, budget)
    return 2 * size**3 / timing.median


def measure_products(plan: Plan) -> Found:
    return {"flops_per_second": rate_of_products(plan)}


@torch.no_grad()
def measure(plan: Plan, shape: Shape, length: int, method: Method) -> Found:
    """Seconds, FLOP/s, working memory beyond input and output, and of backends the kernels that took the time."""
    run = method.make(shape, shape.inputs(length, plan.device, plan.dtype))
    timing = plan.accelerator.time(run, budget=plan.sizes.budget)
    rate = flops(shape, method.pairs) / timing.median
    rates = {"tflops_per_second": rate / 1e12, "of_products": rate / rate_of_products(plan)} if rate else {}
    output = shape.query_heads * shape.head_dim * length * plan.dtype.itemsize
    return {
        "seconds": timing.to_dict(),
        "median": timing.median,
        **rates,
        **({"working_memory_mib": plan.accelerator.memory_of(run, output)} if timing.median < SLOW else {}),
        **({"profile": plan.accelerator.busy(run).to_dict()} if method.profiled else {}),
    }


def dense(shape: Shape, tensors: Tensors) -> Callable[[], Tensor]:
    """Causal attention of torch, on tensors as a cache would hold them."""
    query, key, value = (x.contiguous() for x in tensors)
    grouped = shape.query_heads > shape.key_heads
    scale = shape.head_dim**-0.5
    return partial(F.scaled_dot_product_attention, query, key, value, is_causal=True, scale=scale, enable_gqa=grouped)


def flash_kernel(shape: Shape, tensors: Tensors) -> Callable[[], object]:
    """The window by the flash attention within torch, on `[B, n, H, d]`."""
    query, key, value = (x.transpose(1, 2).contiguous() for x in tensors)
    if not query.is_cuda:
        raise UserError("torch has its flash attention with a window on CUDA only")
    length = query.shape[1]
    window = {"window_size_left": shape.local_branch - 1, "window_size_right": 0}
    return partial(
        torch.ops.aten._flash_attention_forward,
        *(query, key, value, None, None, length, length, 0.0, False, False),
        scale=shape.head_dim**-0.5,
        **window,
    )


def flex_kernel(shape: Shape, tensors: Tensors) -> Callable[[], object]:
    """The window by flex_attention, all of it at once."""
    query, key, value = (x.contiguous() for x in tensors)
    length = query.shape[2]
    mask = band_mask(length, length, 0, 0, shape.local_branch, query.device)
    run = _compiled_flex() if query.is_cuda else flex_attention
    aux = AuxRequest(lse=True)
    return partial(run, query, key, value, None, mask, shape.head_dim**-0.5, enable_gqa=True, return_aux=aux)


@lru_cache(maxsize=1)
def _compiled_flex() -> Callable:
    return compile_whole(flex_attention)


def rotation(shape: Shape, tensors: Tensors) -> Callable[[], object]:
    """The encoding of queries and keys at their positions."""
    query, key, _ = tensors
    layer = shape.layer()
    layer.positions.begin_forward(1, query.shape[2])
    return lambda: (encode(query, 0, layer), encode(key, 0, layer))


def join(shape: Shape, tensors: Tensors) -> Callable[[], object]:
    """The window's attention and that of the first tokens brought together by the log-sum-exps of their scores."""
    query, layer = tensors[0].contiguous(), shape.layer()
    outputs, output = (query, query.clone()), torch.empty_like(query)
    log_sums = tuple(torch.randn(*query.shape[:-1], 1, device=query.device) for _ in outputs)
    return partial(run_fused, merge_into, layer.fuses(query), output, outputs, log_sums)


def attend(
    shape: Shape, tensors: Tensors, backend: str, first: bool = True, rotated: bool = True
) -> Callable[[], Tensor]:
    """Λ-attention by a backend. first: with first tokens. rotated: with positions."""
    config = replace(shape.config, backend=backend, global_branch=shape.global_branch if first else 0)
    layer = shape.layer(config)
    if not rotated:
        layer = AttentionLayer(config, NoPositions(), layer.scale)
    layer.positions.begin_forward(1, tensors[0].shape[2])
    return partial(lambda_attention, *tensors, layer)


class NoPositions:
    """Queries and keys as they are, and no biases either: a position encoding that costs nothing."""

    slopes = None

    def begin_forward(self, rows: int, columns: int) -> None:
        """Nothing to forget."""

    def at(self, x: Tensor, start: int, latest: int | None = None, scale: float = 1.0) -> Tensor:
        return x if scale == 1.0 else x * scale

    def at_distance(self, query: Tensor, distance: int, scale: float = 1.0) -> Tensor:
        return self.at(query, distance, scale=scale)


PART = Part(
    name="layer",
    question="How fast is one layer over a whole sequence, beside dense attention and the bare window?",
    share=0.25,
    cases=cases,
)
