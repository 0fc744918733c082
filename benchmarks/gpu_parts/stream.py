"""Part 3: how fast is an endless stream read by a model of SmolLM2-135M's shape, and how busy is the device with it?

Chunks of random tokens go through `StreamScorer`, as in scripts/eval_infinite_ppl.py, and their NLL to the host; there
is no tokenizer and no checkpoint. The first chunks, for which kernels are made and which fill the window, do not count.
"""

import time
from collections.abc import Iterator
from functools import partial

import torch
from transformers import LlamaConfig, PreTrainedModel

from benchmarks.gpu_parts.case import Case, Found, Part
from benchmarks.gpu_parts.sizes import Plan
from benchmarks.measuring.accelerator import Accelerator
from benchmarks.measuring.memory import MIB
from benchmarks.measuring.random_models import random_model
from benchmarks.measuring.timing import synchronize
from models.attention.decode.cache_state import cache_bytes
from models.attention.settings import ON_GPU
from models.lambda_attention import LambdaConfig
from models.model_base import convert_model
from models.scoring.stream_scorer import StreamScorer

WARM_UPS, PROFILED = 2, 2
"""Chunks: one from the beginning and one that goes on are different to a compiler; more make its kernels no faster."""
SECONDS = 25.0
MEASURED_SECONDS = 6.0
"""Time that chunks are read for; a share of it in tiny sizes."""
GOAL = 200_000_000
"""Tokens of the paper's longest stream."""


class Stream:
    """A converted model that reads random tokens, chunk after chunk."""

    def __init__(self, model: PreTrainedModel, chunk: int) -> None:
        self.model, self.chunk = model, chunk
        self.scorer = StreamScorer(model)
        self.generator = torch.Generator().manual_seed(0)

    @torch.no_grad()
    def read(self, chunks: int = 1) -> None:
        """Read and score so many chunks; the NLL comes to the host, as a trial keeps it."""
        for _ in range(chunks):
            tokens = torch.randint(self.model.config.vocab_size, (1, self.chunk), generator=self.generator)
            self.scorer(tokens.to(self.model.device)).double().cpu()


def cases(plan: Plan) -> Iterator[Case]:
    """Chunks of several lengths by the backend that is chosen, then those of the first length by each that is named."""
    first, chosen = plan.sizes.chunks[0], ON_GPU[0]
    ways = [(chunk, chosen) for chunk in plan.sizes.chunks] + [(first, backend) for backend in ON_GPU[1:]]
    for chunk, backend in ways:
        yield Case(case_name(chunk, backend), SECONDS, partial(measure, plan, chunk, backend))


def case_name(chunk: int, backend: str) -> str:
    return f"chunks of {chunk:,} tokens, {backend}"


def measure(plan: Plan, chunk: int, backend: str) -> Found:
    sizes = plan.sizes
    model = random_model(LlamaConfig(**sizes.stream_model), plan.device, plan.dtype)
    config = LambdaConfig(sizes.local_branch, sizes.global_branch, sizes.local_branch, backend=backend)
    stream = Stream(convert_model(model, config), chunk)
    return measure_stream(stream, plan.accelerator, MEASURED_SECONDS * sizes.budget)


def measure_stream(stream: Stream, accelerator: Accelerator, seconds: float) -> Found:
    """Tokens/s over as many chunks as `seconds` give, then the share of time in which the device computes.

    In "profile" it is that of PROFILED chunks under the profiler, which makes the host slower, not the device:
    "busy_share" takes the device's seconds of a chunk over what a chunk took without it.
    """
    stream.read(WARM_UPS)
    chunks, taken = 0, 0.0
    synchronize(accelerator.device)
    begun = time.perf_counter()
    while taken < seconds or not chunks:
        stream.read()
        chunks, taken = chunks + 1, time.perf_counter() - begun
    speed = chunks * stream.chunk / taken
    memory = accelerator.memory_of(stream.read)
    seen = accelerator.busy(partial(stream.read, PROFILED))
    busy = None if seen.busy is None else min(1.0, seen.busy / PROFILED / (taken / chunks))
    return {
        "tokens_per_second": speed,
        "chunks": chunks,
        "busy_share": busy,
        "minutes_for_200m": GOAL / speed / 60,
        "memory_beyond_weights_mib": memory,
        "cache_mib": cache_bytes(stream.scorer.cache) / MIB,
        "profile": seen.to_dict(),
    }


PART = Part(
    name="stream",
    question="How fast is an endless stream read by a model of SmolLM2-135M's shape, and how busy is the device?",
    share=0.2,
    cases=cases,
)
