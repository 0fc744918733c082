"""`generate` of a converted model: what Transformers would say or do that is true of unconverted ones alone."""

from functools import partial

from transformers import GenerationMixin, PreTrainedModel
from transformers.generation import StoppingCriteriaList

from ..assumptions import BATCHING, CRITERIA, PREDEFINED_LENGTH, PREPARE


class Generation:
    """What a conversion changes of `generate`, from when it is made until `give_back`."""

    def __init__(self, model: PreTrainedModel) -> None:
        """MPT's configuration turns the cache off; a bounded one has no reason to be."""
        self.config = getattr(model, "generation_config", None)
        if self.config is not None:
            self.used_cache, self.config.use_cache = self.config.use_cache, True
        if isinstance(model, GenerationMixin):
            setattr(model, CRITERIA, partial(_criteria_without_length, model))
            setattr(model, BATCHING, _refuse_batching)

    def give_back(self, model: PreTrainedModel) -> None:
        if self.config is not None:
            self.config.use_cache = self.used_cache
        for name in (CRITERIA, BATCHING, PREPARE):
            model.__dict__.pop(name, None)


def _criteria_without_length(model: PreTrainedModel, *args, **kwargs) -> StoppingCriteriaList:
    """The ends of a generation, none of which warns that the text is longer than those of the pre-training."""
    criteria = getattr(type(model), CRITERIA)(model, *args, **kwargs)
    for criterion in criteria:
        if hasattr(criterion, PREDEFINED_LENGTH):
            setattr(criterion, PREDEFINED_LENGTH, None)
    return criteria


def _refuse_batching(*unread: object, **also_unread: object) -> None:
    raise NotImplementedError(
        "continuous batching (generate_batch) packs texts into pages of a cache of its own, and Λ-attention reads rows "
        "into one that is bounded: call generate with a padded batch, or revert_model first"
    )
