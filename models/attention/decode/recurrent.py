"""Layers of a cache that carry a state from token to token: those of linear attention, convolutions, state spaces.

Transformers' own modules fill the states. A model that mixes them with attention has both kinds in one cache.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from transformers.cache_utils import LinearAttentionLayer

from ..bands.cache import ChunkLayer, FullLayer
from ..bands.config import ChunksConfig
from ..config import LayerMethod, Method
from .cache import LambdaLayer
from .counted import CountedLayer

STATES = ("conv_states", "recurrent_states")
UNKNOWN = -1


class RecurrentLayer(LinearAttentionLayer):
    """One layer's state, `[B, ...]` per tensor, however long the stream.

    state_columns: tokens that it has read, padding included; UNKNOWN while it reads. state_due: those that the forward
    under way is to end with. ended: the rows whose text has had padding behind it, which is in the state as well; empty
    where there are none.
    """

    config = step = None
    is_croppable = lacks_window = False

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        LinearAttentionLayer.__init__(self)
        self.state_columns = self.state_due = 0
        self.ended: frozenset[int] = frozenset()

    def lazy_initialization(self, **states) -> None:
        with torch.inference_mode(False):  # so that a stream begun in inference mode may go on outside of it
            LinearAttentionLayer.lazy_initialization(self, **states)

    def expect(self, new_tokens: int) -> None:
        """Prepare for a forward over so many columns."""
        self.state_due = self.state_columns + new_tokens

    def begin_state(self) -> None:
        self.state_columns = UNKNOWN

    def finish_state(self) -> None:
        self.state_columns = self.state_due

    @property
    def arrived(self) -> bool:
        return self.state_columns == self.state_due

    def counts(self) -> set[int]:
        return {self.state_columns}

    def crop(self, tokens_to_remove: int) -> None:
        if int(tokens_to_remove) == 0:
            return
        raise NotImplementedError(
            "a recurrent state cannot give tokens back: assisted and prompt-lookup decoding need a model without one"
        )

    def reorder_cache(self, beam_idx: Tensor) -> None:
        with torch.inference_mode(False):
            LinearAttentionLayer.reorder_cache(self, beam_idx)
        if self.ended:
            self.ended = frozenset(row for row, old in enumerate(beam_idx.tolist()) if old in self.ended)

    def batch_select_indices(self, indices: Tensor) -> None:
        rows = indices.nonzero().squeeze(-1) if indices.dtype == torch.bool else indices
        RecurrentLayer.reorder_cache(self, rows)

    def batch_repeat_interleave(self, repeats: int) -> None:
        held = state_tensors(self)
        if held:
            rows = len(next(iter(held.values())))
            RecurrentLayer.reorder_cache(self, torch.arange(rows).repeat_interleave(repeats))

    def nbytes(self) -> int:
        """Bytes of the states."""
        return sum(tensor.nbytes for tensor in state_tensors(self).values())

    def restore_state(self, tensors: dict[str, Tensor], position: int) -> None:
        """Hold what `state_tensors` gave when every row had read `position` tokens, none of them padding."""
        restore_states(self, tensors)
        self.state_columns, self.ended = position, frozenset()


class _Beside:
    """A layer that attends and carries a state beside it, as each of Falcon H1's does. attending: as which one."""

    attending: ClassVar[type[CountedLayer]]
    is_croppable = False

    def __init__(self, config: Method, layer_idx: int = 0) -> None:
        self.attending.__init__(self, config, layer_idx)

    def reset(self) -> None:
        CountedLayer.reset(self)
        RecurrentLayer.reset(self)

    def lazy_initialization(self, *keys_and_values: Tensor, **states) -> None:
        if states:
            RecurrentLayer.lazy_initialization(self, **states)
        else:
            self.attending.lazy_initialization(self, *keys_and_values)

    def expect(self, new_tokens: int) -> None:
        CountedLayer.expect(self, new_tokens)
        RecurrentLayer.expect(self, new_tokens)

    @property
    def arrived(self) -> bool:
        return self.columns == self.due and self.state_columns == self.state_due

    def counts(self) -> set[int]:
        return {self.columns, self.state_columns}

    def crop(self, tokens_to_remove: int) -> None:
        RecurrentLayer.crop(self, tokens_to_remove)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        CountedLayer.reorder_cache(self, beam_idx)
        RecurrentLayer.reorder_cache(self, beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        CountedLayer.batch_select_indices(self, indices)
        RecurrentLayer.batch_select_indices(self, indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        CountedLayer.batch_repeat_interleave(self, repeats)
        RecurrentLayer.batch_repeat_interleave(self, repeats)

    def nbytes(self) -> int:
        return CountedLayer.nbytes(self) + RecurrentLayer.nbytes(self)


class LambdaRecurrentLayer(_Beside, LambdaLayer, RecurrentLayer):
    attending = LambdaLayer


class FullRecurrentLayer(_Beside, FullLayer, RecurrentLayer):
    attending = FullLayer


class EmptyLayer:
    """A layer that keeps nothing of a text, as those of Nemotron-H that are an MLP alone."""

    config = step = None
    is_compileable = supports_early_init = is_croppable = lacks_window = False
    arrived = True

    def counts(self) -> set[int]:
        return set()

    def get_max_length(self) -> int:
        return -1

    def nbytes(self) -> int:
        return 0

    def _keep_nothing(self, *unread: object) -> None:
        pass

    expect = reset = crop = reorder_cache = batch_select_indices = batch_repeat_interleave = _keep_nothing


CacheLayer = CountedLayer | RecurrentLayer | EmptyLayer
ATTENDING = (LambdaLayer, FullLayer)
"""Kinds of layers that attend and do nothing besides."""

LayerPlan = tuple[type[CacheLayer], LayerMethod | None]
"""The kind of a layer, and its configuration where it attends."""


def layer_plan(config: LayerMethod | None, is_recurrent: bool) -> LayerPlan:
    """config: None for a layer that does not attend. is_recurrent: whether it carries a state; none that attends within
    chunks is known to.
    """
    if config is None:
        return (RecurrentLayer if is_recurrent else EmptyLayer), None
    if isinstance(config, ChunksConfig):
        return ChunkLayer, config
    if config.attends_all:
        return (FullRecurrentLayer if is_recurrent else FullLayer), config
    return (LambdaRecurrentLayer if is_recurrent else LambdaLayer), config


def planned_layers(plans: Sequence[LayerPlan]) -> list[CacheLayer]:
    """Empty layers of a cache."""
    return [kind() if config is None else kind(config, place) for place, (kind, config) in enumerate(plans)]


def state_tensors(layer: object) -> dict[str, Tensor]:
    """The states `[B, ...]` of a layer of any cache, ours or Transformers', by name; none where it carries none."""
    return {
        f"{name}.{number}": state
        for name in STATES
        for number, state in getattr(layer, name, {}).items()
        if state is not None
    }


def restore_states(layer: LinearAttentionLayer, tensors: dict[str, Tensor]) -> None:
    """Have a layer that has read some token hold these states instead, named as `state_tensors` does."""
    for name in STATES:
        states = getattr(layer, name)
        for number in states:
            if states[number] is not None:
                states[number] = tensors[f"{name}.{number}"]


def part_states(layer: LinearAttentionLayer) -> None:
    """Give a shallow copy of a layer states of its own: Transformers writes into them."""
    for name, held in vars(layer).items():
        if isinstance(held, dict):
            own = {key: value.clone() if isinstance(value, Tensor) else value for key, value in held.items()}
            setattr(layer, name, own)
