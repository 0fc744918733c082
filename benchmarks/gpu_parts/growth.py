"""Part 5: do time per token and memory stay flat, however long the text is, and however far in it a token stands?"""

from collections.abc import Iterator
from functools import partial

import torch
from transformers import LlamaConfig

from benchmarks.gpu_parts.case import Case, Found, Part
from benchmarks.gpu_parts.sizes import Plan
from benchmarks.measuring.filled_cache import fill_layer
from benchmarks.measuring.memory import MIB
from benchmarks.measuring.random_models import random_model
from benchmarks.measuring.shapes import Shape
from models.attention.decode.cache import LambdaCache
from models.attention.prefill.choice import choose_backend
from models.decode_graph import DecodeGraph
from models.lambda_attention import LambdaConfig, lambda_attention
from models.model_base import convert_model

SECONDS = 15.0
STEPS = 32


def cases(plan: Plan) -> Iterator[Case]:
    """The largest shape over a whole sequence, by length; then one decoded token, by its position."""
    shape = plan.sizes.shapes[-1]
    for length in plan.sizes.growth_lengths:
        yield Case(layer_case(length), SECONDS, partial(measure_layer, plan, shape, length))
    for position in plan.sizes.decode_positions:
        yield Case(step_case(position), SECONDS, partial(measure_step, plan, position))


def layer_case(length: int) -> str:
    return f"a layer over {length:,} tokens"


def step_case(position: int) -> str:
    return f"a decoded token at {position:,}"


@torch.no_grad()
def measure_layer(plan: Plan, shape: Shape, length: int) -> Found:
    layer = shape.layer()
    layer.positions.begin_forward(1, length)
    query, key, value = shape.inputs(length, plan.device, plan.dtype)
    run = partial(lambda_attention, query, key, value, layer)
    timing = plan.accelerator.time(run, budget=plan.sizes.budget)
    output = shape.query_heads * shape.head_dim * length * plan.dtype.itemsize
    memory = plan.accelerator.memory_of(run, output)
    return {
        "tokens": length,
        "backend": str(choose_backend(layer, query, value)),
        "seconds": timing.to_dict(),
        "nanoseconds_per_token": 1e9 * timing.median / length,
        "working_memory_mib": memory,
    }


@torch.no_grad()
def measure_step(plan: Plan, position: int) -> Found:
    """One captured step of a model of SmolLM2's shape whose cache stands at `position`."""
    sizes = plan.sizes
    config = LambdaConfig(sizes.local_branch, sizes.global_branch, sizes.local_branch)
    model = convert_model(random_model(LlamaConfig(**sizes.stream_model), plan.device, plan.dtype), config)
    cache = LambdaCache(config, model.config.num_hidden_layers)
    heads, width = model.config.num_key_value_heads, model.config.head_dim
    layer = model.base_model.lambda_conversion.modules[0].lambda_layer
    for cached in cache.layers:
        shape = (1, heads, config.local_branch + config.global_branch, width)
        text = (torch.randn(shape, device=plan.device, dtype=plan.dtype) for _ in range(2))
        fill_layer(cached, *text, layer, position)
    graph, token = DecodeGraph(model, cache), torch.zeros(1, 1, dtype=torch.int64, device=plan.device)
    timing = plan.accelerator.time(partial(graph.step, token), STEPS, sizes.budget)
    return {
        "position": position,
        "seconds": timing.to_dict(),
        "milliseconds_per_token": 1e3 * timing.median,
        "cache_mib": cache.nbytes() / MIB,
    }


PART = Part(
    name="growth",
    question="Do time per token and memory stay flat in the length?",
    share=0.15,
    cases=cases,
)
