"""The way in which a model reads prompts and generates: in chunks or not, by a captured step or not, and why."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from models.assumptions import EXPERTS_OF_A_TOKEN
from models.converting.family import has_chunks
from models.converting.wrappers import conversion_of, text_config
from models.decode_graph import CapturedSteps
from models.model_base import is_hybrid
from scripts.generation.arguments import Generation
from scripts.harness.model import RunnableModel, is_sharded
from scripts.harness.model_arguments import ModelPlan
from scripts.harness.prefill import Prefill, choose_prefill
from scripts.harness.prefill_arguments import PrefillPlan
from utils.errors import SharedError
from utils.ranks.runtime import Runtime

IN_ONE_FORWARD = Prefill(None)


@dataclass(frozen=True)
class Way:
    """reading: how many tokens of a prompt are read at once. decoding: what `generate` runs in: CapturedSteps, or a
    context that changes nothing, because of `ordinary`.

    synced: whether ranks hold shards of the weights, so that each takes part in every forward of the others, and
    generates for as long as any of them does.
    """

    reading: Prefill = IN_ONE_FORWARD
    decoding: AbstractContextManager = field(default_factory=nullcontext)
    ordinary: str | None = None
    synced: bool = False

    def announcement(self, longest: int | None) -> str:
        """What is said of it, once, before prompts of at most so many tokens are read."""
        steps = "a captured step" if self.ordinary is None else f"ordinary forwards ({self.ordinary})"
        return f"{self.reading.announcement(longest)}, decoding by {steps}"


def choose_way(
    generation: Generation,
    reading: PrefillPlan,
    model: RunnableModel,
    method: ModelPlan,
    batch_size: int,
    runtime: Runtime,
) -> Way:
    """The same on every rank, which all call it together. method: what `model` was loaded by. Raises SharedError."""
    synced = runtime.world_size > 1 and is_sharded(method, runtime)
    if synced and runtime.sequence_parallel > 1 and runtime.readers > 1:
        raise SharedError(
            f"--sequence_parallel {runtime.sequence_parallel} under ZeRO-3 generates in one group of ranks, and there "
            f"are {runtime.readers}: start {runtime.sequence_parallel} ranks, or do without ZeRO-3"
        )
    prefill = choose_prefill(reading, model, method, batch_size, runtime, fills_cache=True)
    ordinary = reason_for_ordinary_steps(generation, model, method, runtime.device.type, synced)
    decoding = CapturedSteps(model.model) if ordinary is None else nullcontext()
    return Way(prefill, decoding, ordinary, synced)


def reason_for_ordinary_steps(
    generation: Generation, model: RunnableModel, method: ModelPlan, device: str, synced: bool
) -> str | None:
    """Why a decoding step is not captured; None where it is. device: the type of the one that computes."""
    attention = method.attention
    if generation.no_captured_step:
        return "--no_captured_step"
    if device != "cuda":
        return "there is no GPU"
    if attention is None:
        return "the cache of a vanilla model grows with each token"
    if attention.top_k is not None or attention.attends_all:
        return "the middle tokens are kept"
    if is_hybrid(model.model.config):
        return "a capture would move the recurrent states on"
    if has_chunks(conversion_of(model.model).plans):
        return "some layers attend within chunks of their own"
    if synced:
        return "ranks share the weights"
    if method.spec.load_in_4bit:
        return "--load_in_4bit"
    if getattr(text_config(model.model.config), EXPERTS_OF_A_TOKEN, None):
        return "the host picks each token's experts"
    if len({weight.device for weight in model.model.parameters()}) > 1:
        return "the model lies on several devices"
    return None
