"""After a sequence was read by many ranks: one of them goes on alone, or each of them does."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps

import torch.distributed as dist
from transformers import PreTrainedModel

from ...assumptions import PREPARE
from ...converting.wrappers import conversion_of
from ..decode.cache import LambdaCache
from .group import Ranks, SequenceGroup
from .messages import hearing_others


@contextmanager
def reading_alone(model: PreTrainedModel) -> Iterator[None]:
    """Within it, a model that is converted for a sequence_group reads by itself: `generate`, single tokens, anything.

    The cache is then the last rank's, or one that `share_cache` has made whole. Under ZeRO-3 all ranks go on alike.
    Raises ValueError for a model that is not converted.
    """
    conversion = conversion_of(model)
    if conversion is None:
        raise ValueError("this model is not converted: call convert_model first")
    sequence, conversion.sequence = conversion.sequence, None
    try:
        yield
    finally:
        conversion.sequence = sequence


def guard_generation(model: PreTrainedModel) -> None:
    """Have `generate` refuse a model that reads with other ranks: each would hand its prompt on as a stretch of one."""
    prepare = getattr(model, PREPARE)

    @wraps(prepare)  # generate looks at the arguments that it takes
    def guarded(*args, **inputs) -> dict:
        if sequence_of(model) is not None:
            raise ValueError(
                "generate reads by itself, and this model reads with a sequence_group: read the prompt stretch by "
                "stretch, share_cache, and generate within reading_alone(model)"
            )
        return prepare(*args, **inputs)

    setattr(model, PREPARE, guarded)


def share_cache(cache: LambdaCache, sequence_group: Ranks) -> None:
    """Give every rank's cache the window that the last rank's holds; all ranks call it.

    Sends L keys and values per layer to each rank, once.
    """
    sequence = SequenceGroup(sequence_group)
    for layer in cache.layers:
        for tensor in (layer.keys, layer.values):
            with hearing_others():
                dist.broadcast(tensor, group=sequence.process_group, group_src=sequence.ranks - 1)
        layer.lacks_window = False


def sequence_of(model: PreTrainedModel) -> SequenceGroup | None:
    """The group that a converted model reads sequences with; None for one that reads alone, or is not converted."""
    conversion = conversion_of(model)
    return None if conversion is None else conversion.sequence
