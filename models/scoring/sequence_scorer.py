"""The NLL of a text that many ranks read together: each scores its stretch, and all have the numbers of the whole."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..attention.sequence.caches import sequence_of
from ..attention.sequence.group import SequenceGroup
from ..attention.sequence.reading import read_stretch
from ..attention.sequence.stretches import share_of
from .host_copy import HostCopies
from .stream_scorer import StreamScorer


class SequenceScorer(StreamScorer):
    """A StreamScorer of a model that is converted with a sequence_group.

    Every rank of the group calls it with the whole chunk, and gets the NLL of the whole chunk. The token after a
    stretch is scored by the rank of the stretch, which needs its id alone. What the next chunk needs is on the last
    rank: only there `state` may be asked for.
    """

    def __init__(self, model: PreTrainedModel, sequence: SequenceGroup, compiled: bool = True) -> None:
        super().__init__(model, compiled)
        self.sequence = sequence

    def forward(self, input_ids: Tensor, ends: bool = False) -> Tensor:
        columns, before = input_ids.shape[1], self.last_hidden
        shares = [share_of(rank, self.sequence.ranks, columns) for rank in range(self.sequence.ranks)]
        scored = [slice(share.start + 1, min(share.stop + 1, columns)) for share in shares]
        own, targets = shares[self.sequence.rank], input_ids[:, scored[self.sequence.rank]]
        cache = self.cache if before is not None or not ends else None
        hidden = read_stretch(self.model, input_ids[:, own], cache)
        self.last_hidden = hidden[:, -1:].clone()
        hidden = hidden[:, : targets.shape[1]]
        lengths = [part.stop - part.start for part in scored]
        if before is not None:  # the chunk's first token is the last rank's, which puts it behind its own
            lengths[-1] += 1
            if self.sequence.is_last:
                hidden = torch.cat([hidden, before.to(hidden.device)], dim=1)
                targets = torch.cat([targets, input_ids[:, :1]], dim=1)
        if ends:
            self.reset()
        nll = self.sequence.join(self.score(hidden, targets), lengths)
        return nll if before is None else nll.roll(1, dims=1)

    def state(self, row: int) -> HostCopies:
        if not self.sequence.is_last:
            raise ValueError("what the next chunk needs is on the last rank of the sequence_group: ask there")
        return super().state(row)


def stream_scorer(model: PreTrainedModel, compiled: bool = True) -> StreamScorer:
    """The scorer of streams for a model, over the ranks that it is converted for. compiled: as in NllScorer."""
    sequence = sequence_of(model)
    return StreamScorer(model, compiled) if sequence is None else SequenceScorer(model, sequence, compiled)
