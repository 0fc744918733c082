"""Part 1, continued: is a decoding step as one CUDA graph what an ordinary forward of one token is?"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import torch
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks.gpu_parts.case import Case, Found
from benchmarks.gpu_parts.errors import errors
from benchmarks.gpu_parts.sizes import Plan
from benchmarks.measuring.filled_cache import fill_layer
from benchmarks.measuring.random_models import random_llama, random_mpt
from models.assumptions import with_cache
from models.attention.decode.cache import LambdaCache
from models.decode_graph import DecodeGraph
from models.lambda_attention import LambdaConfig
from models.model_base import convert_model

BOUNDS = {torch.bfloat16: 0.05, torch.float32: 1e-4}
"""Of errors as shares of the largest logit: the two forwards score columns in another order."""
LAYERS, VOCABULARY = 2, 256
SHORT_OF_WINDOW = 5
"""Tokens by which the prompt is shorter than the window, so that the ring wraps while steps are read."""
STEPS = 12
SECONDS = 10.0


@dataclass(frozen=True)
class Steps:
    """A model of so many heads, which reads a prompt or stands at position `start`, and then STEPS tokens."""

    name: str
    query_heads: int
    key_heads: int
    head_dim: int
    config: LambdaConfig
    rows: int = 1
    start: int = 0
    alibi: bool = False

    def model(self, device: str, dtype: torch.dtype) -> PreTrainedModel:
        """A converted random model."""
        make = random_mpt if self.alibi else random_llama
        model = make(
            query_heads=self.query_heads,
            key_heads=self.key_heads,
            head_dim=self.head_dim,
            layers=LAYERS,
            vocabulary=VOCABULARY,
            device=device,
            dtype=dtype,
        )
        return convert_model(model, self.config)

    def cache(self, model: PreTrainedModel, tokens: Tensor) -> LambdaCache:
        """A cache that has read `tokens`, or stands at `start` with random keys and values."""
        cache = LambdaCache(self.config, LAYERS)
        if not self.start:
            model(input_ids=tokens, **with_cache(model, cache), use_cache=True)
            return cache
        kept = self.config.local_branch + self.config.global_branch
        shape, generator = (self.rows, self.key_heads, kept, self.head_dim), torch.Generator().manual_seed(1)
        layer = model.base_model.lambda_conversion.modules[0].lambda_layer
        for cached in cache.layers:
            text = (torch.randn(shape, generator=generator).to(tokens.device, model.dtype) for _ in range(2))
            fill_layer(cached, *text, layer, self.start)
        return cache


def step_cases(plan: Plan) -> Iterator[Case]:
    """The captured step of each shape, in bfloat16 and float32."""
    for steps in islice(every_shape(plan.sizes.window), plan.sizes.scenarios):
        for dtype in BOUNDS:
            name = f"captured step, {steps.name}, {str(dtype).removeprefix('torch.')}"
            yield Case(name, SECONDS, partial(compare_steps, steps, dtype, plan.device))


def every_shape(window: int) -> Iterator[Steps]:
    """The shapes, most valuable first. window: L."""
    plain = LambdaConfig(window, 10, window)
    smollm2 = Steps("9/3 heads of 64", 9, 3, 64, plain)
    yield smollm2
    yield Steps("32 heads of 128", 32, 32, 128, plain)
    yield replace(smollm2, name="a limit inside the window", config=replace(plain, limit_distance=window * 5 // 8))
    yield replace(smollm2, name="two rows", rows=2)
    yield replace(smollm2, name="positions near 1e9", start=10**9 - STEPS // 2)
    yield Steps("ALiBi", 8, 8, 64, plain, alibi=True)
    yield Steps("heads 8 wide", 4, 2, 8, plain)


@torch.no_grad()
def compare_steps(steps: Steps, dtype: torch.dtype, device: str) -> Found:
    """The errors of the captured step's logits, beside the bound that they keep or not."""
    generator = torch.Generator().manual_seed(0)
    prompt = steps.config.local_branch - SHORT_OF_WINDOW
    tokens = torch.randint(VOCABULARY, (steps.rows, prompt + STEPS), generator=generator).to(device)
    text, new = tokens.split([prompt, STEPS], dim=1)
    model = steps.model(device, dtype)
    cache = steps.cache(model, text)
    graph = DecodeGraph(model, steps.cache(model, text))
    found, expected = [], []
    for token in new.split(1, dim=1):
        expected.append(model(input_ids=token, **with_cache(model, cache), use_cache=True).logits)
        found.append(graph.step(token))
    return errors(torch.cat(found, 1), torch.cat(expected, 1), BOUNDS[dtype])
