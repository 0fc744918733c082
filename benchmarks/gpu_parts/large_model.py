"""Part 4: Llama-2-7B's shape, vanilla beside Λ-attention: a long prompt, the tokens after it, memory, and a stream."""

from collections.abc import Iterator
from functools import cached_property, partial

from transformers import LlamaConfig, PreTrainedModel

from benchmarks.gpu_parts.case import Case, Found, Part
from benchmarks.gpu_parts.sizes import Plan, Sizes
from benchmarks.gpu_parts.stream import MEASURED_SECONDS, Stream, measure_stream
from benchmarks.measuring.memory import MIB, PeakMemory
from benchmarks.measuring.model_reading import read_and_generate
from benchmarks.measuring.random_models import random_model
from models.conversion import is_converted, revert_model
from models.lambda_attention import LambdaConfig
from models.model_base import convert_model

VANILLA, OURS, CAPTURED, STREAM = "vanilla", "Λ-attention", "Λ-attention, captured steps", "a stream"
SECONDS = 30.0
WARM_UP_TOKENS = 2


class OneModel:
    """One model for all cases: made when the first needs it, converted and taken back as they need it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    @cached_property
    def _made(self) -> PreTrainedModel:
        return random_model(LlamaConfig(**self.plan.sizes.large_model), self.plan.device, self.plan.dtype)

    def vanilla(self) -> PreTrainedModel:
        return revert_model(self._made)

    def converted(self) -> PreTrainedModel:
        model = self._made
        return model if is_converted(model) else convert_model(model, config_of(self.plan.sizes))


def config_of(sizes: Sizes) -> LambdaConfig:
    return LambdaConfig(sizes.local_branch, sizes.global_branch, sizes.local_branch)


def cases(plan: Plan) -> Iterator[Case]:
    """Λ-attention first: what vanilla takes is known best."""
    one = OneModel(plan)
    yield Case(CAPTURED, SECONDS, partial(measure_reading, plan, one, CAPTURED))
    yield Case(VANILLA, SECONDS, partial(measure_reading, plan, one, VANILLA))
    yield Case(STREAM, SECONDS, partial(measure_large_stream, plan, one))
    yield Case(OURS, SECONDS, partial(measure_reading, plan, one, OURS))


def measure_reading(plan: Plan, one: OneModel, method: str) -> Found:
    """A prompt read and gone on from, after a run of the same length in which kernels are made."""
    model = one.vanilla() if method == VANILLA else one.converted()
    length, tokens = plan.sizes.prompt, plan.sizes.decoded
    read = partial(read_and_generate, model, length, graph=method == CAPTURED)
    read(WARM_UP_TOKENS)
    plan.accelerator.clear()
    memory = PeakMemory(plan.device)
    before = memory.start()
    reading = read(tokens)
    peak = memory.peak()
    return {
        "prompt_tokens": length,
        "prefill_seconds": reading.prefill,
        "prefill_tokens_per_second": length / reading.prefill,
        "decoded_tokens_per_second": tokens / reading.decode,
        "memory_beyond_weights_mib": (peak - before) / MIB,
        "peak_memory_mib": peak / MIB,
        "cache_mib": reading.cache / MIB,
    }


def measure_large_stream(plan: Plan, one: OneModel) -> Found:
    stream = Stream(one.converted(), plan.sizes.large_chunk)
    return measure_stream(stream, plan.accelerator, MEASURED_SECONDS * plan.sizes.budget)


PART = Part(
    name="large_model",
    question="How fast does Llama-2-7B's shape read, decode and stream, beside vanilla, and in how much memory?",
    share=0.25,
    cases=cases,
)
