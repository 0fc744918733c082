"""How many tokens of a text are read at once: what --prefill_chunk says, else what free memory allows."""

from dataclasses import dataclass

from torch import nn

from models.loading.activations import bytes_per_token
from models.loading.vanilla import constant_rope_length
from models.model_base import supported_model_types
from scripts.harness.model import RunnableModel
from scripts.harness.model_arguments import ModelPlan
from scripts.harness.prefill_arguments import ONE_FORWARD, PrefillPlan
from utils.errors import SharedError
from utils.ranks.runtime import Runtime, free_memory

SHARE = 0.5
"""The part of free memory that a chunk's activations may take: the rest is for allocators, the head and the cache."""
MULTIPLE = 1024
LARGEST = 65_536
"""Tokens. A GPU has enough to do with as many, and attention takes no more of them at once."""
LARGEST_UNBOUNDED = 4096
"""The same, where every token is kept: a mask of the new tokens times all of them is made in each layer."""


@dataclass(frozen=True)
class Prefill:
    """How texts are read. chunk: tokens at once, through the cache; None for a text in one forward."""

    chunk: int | None

    def parts(self, length: int) -> list[slice]:
        """The stretches, in turn, in which a text of so many tokens is read; none of an empty one."""
        step = self.chunk or max(length, 1)
        return [slice(first, min(first + step, length)) for first in range(0, length, step)]

    def announcement(self, longest: int | None) -> str:
        """What is said of it before texts of at most so many tokens are read; nothing where none is cut."""
        if self.chunk is None or (longest is not None and longest <= self.chunk):
            return ""
        return f", longer texts in chunks of {self.chunk:,} tokens"


def choose_prefill(
    plan: PrefillPlan, model: RunnableModel, method: ModelPlan, rows: int, runtime: Runtime, fills_cache: bool
) -> Prefill:
    """The same on every rank, which all call it together, before or after the model is placed.

    method: what `model` was loaded by. rows: texts in one forward. fills_cache: whether the cache is needed anyway, as
    in generation; where it is not, one that keeps every token would take more memory than a text in one forward.
    Raises SharedError for a chunk that would change the numbers.
    """
    reason = _inexact(model, method)
    if plan.prefill_chunk == ONE_FORWARD:
        return Prefill(None)
    if plan.prefill_chunk is not None:
        if reason is not None:
            raise SharedError(f"--prefill_chunk {plan.prefill_chunk}: {reason}; leave it out")
        return Prefill(plan.prefill_chunk)
    unbounded = method.attention is None or method.attention.attends_all
    if reason is not None or (unbounded and not fills_cache) or _is_unknown(model, method):
        return Prefill(None)
    first_tokens = 0 if method.attention is None else method.attention.global_branch
    each = rows * bytes_per_token(model.model, first_tokens)
    return Prefill(_by_memory(model.model, each, runtime, LARGEST_UNBOUNDED if unbounded else LARGEST))


def _inexact(model: RunnableModel, method: ModelPlan) -> str | None:
    """Why the numbers of this model would depend on where a text is cut; None if they do not."""
    if method.attention is not None and method.attention.top_k is not None:
        return "with --top_k_attention the last token of each chunk would attend to more tokens than the others"
    if method.attention is None and constant_rope_length(model.model.config) is not None:
        return (
            "this model's RoPE scaling changes its frequencies with the length of the text, but not those of the keys "
            "in the cache"
        )
    return None


def reason_for_one_forward(model: RunnableModel, method: ModelPlan) -> str | None:
    """Why a text is read in one forward unless a flag says otherwise; None where it may be read in parts."""
    if _is_unknown(model, method):
        return f"the cache of {model.model.config.model_type} may be of another kind"
    return _inexact(model, method)


def _is_unknown(model: RunnableModel, method: ModelPlan) -> bool:
    """Whether the model is a vanilla one whose cache may be of another kind: only a flag has it read in chunks."""
    return method.attention is None and model.model.config.model_type not in supported_model_types()


def _by_memory(model: nn.Module, each: int, runtime: Runtime, largest: int) -> int:
    """The tokens of a row, of so many bytes each, for which there is memory on the rank that has least of it, times the
    ranks that share them.
    """
    own = max(int(SHARE * _room(model, runtime) / each) // MULTIPLE, 1) * MULTIPLE
    return runtime.broadcast(runtime.sequence_parallel * min([largest, *runtime.gather(own)]))


def _room(model: nn.Module, runtime: Runtime) -> int:
    """Bytes that are free on the device, or on the one of several that has least, when the weights are there."""
    kind = runtime.device.type
    devices = {weight.device for weight in model.parameters() if weight.device.type == kind} or {runtime.device}
    to_come = sum(weight.nbytes for weight in model.parameters() if weight.device.type not in (kind, "meta"))
    return max(0, min(map(free_memory, devices)) - to_come)
