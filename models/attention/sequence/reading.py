"""Reading a stretch of a sequence with a model that is converted for a group of ranks."""

from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from ...assumptions import ATTENTION_MASK, with_cache
from ...converting.wrappers import base_model


def read_stretch(model: PreTrainedModel, input_ids: Tensor, cache: Cache | None) -> Tensor:
    """The hidden states `[B, n, hidden]` of this rank's stretch, int64 `[B, n]`; all ranks of the group call it.

    cache: a LambdaCache or an empty DynamicCache, read on from and into; None for no cache. Of an empty stretch a
    column of no meaning is returned.
    """
    base, mask = base_model(model), None
    if not input_ids.shape[1]:
        input_ids = mask = input_ids.new_zeros(len(input_ids), 1)
    kept = {} if cache is None else with_cache(base, cache)
    return base(input_ids=input_ids, **{ATTENTION_MASK: mask}, **kept, use_cache=cache is not None)[0]
