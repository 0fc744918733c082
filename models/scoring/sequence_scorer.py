"""The NLL of a text that many ranks read together: each scores its stretch, and all have the numbers of the whole."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..assumptions import ATTENTION_MASK, with_cache
from ..attention.sequence.caches import sequence_of
from ..attention.sequence.group import SequenceGroup
from ..attention.sequence.stretches import share_of
from .stream_scorer import StreamScorer


class SequenceScorer(StreamScorer):
    """A StreamScorer of a model that is converted with a sequence_group.

    Every rank of the group calls it with the whole chunk, and gets the NLL of the whole chunk. The token after a
    stretch is scored by the rank of the stretch, which needs its id alone. What the next chunk needs is on the last
    rank: only there `state` may be asked for.
    """

    def __init__(self, model: PreTrainedModel, sequence: SequenceGroup) -> None:
        super().__init__(model)
        self.sequence = sequence

    def forward(self, input_ids: Tensor, ends: bool = False) -> Tensor:
        columns, before = input_ids.shape[1], self.last_hidden
        shares = [share_of(rank, self.sequence.ranks, columns) for rank in range(self.sequence.ranks)]
        scored = [slice(share.start + 1, min(share.stop + 1, columns)) for share in shares]
        own, targets = shares[self.sequence.rank], input_ids[:, scored[self.sequence.rank]]
        hidden = self._read_stretch(input_ids[:, own], uses_cache=before is not None or not ends)
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

    def _read_stretch(self, input_ids: Tensor, uses_cache: bool) -> Tensor:
        """The hidden states of this rank's stretch, `[batch, n, hidden]`; of an empty one, a column of no meaning."""
        base, mask = self.model.base_model, None
        if not input_ids.shape[1]:
            input_ids, mask = input_ids.new_zeros(len(input_ids), 1), input_ids.new_zeros(len(input_ids), 1)
        cache = with_cache(base, self.cache) if uses_cache else {}
        hidden = base(input_ids=input_ids, **{ATTENTION_MASK: mask}, **cache, use_cache=uses_cache)[0]
        if uses_cache:
            self.last_hidden = hidden[:, -1:].clone()
        return hidden

    def state(self, row: int) -> dict[str, Tensor]:
        if not self.sequence.is_last:
            raise ValueError("what the next chunk needs is on the last rank of the sequence_group: ask there")
        return super().state(row)


def stream_scorer(model: PreTrainedModel) -> StreamScorer:
    """The scorer of streams for a model, over the ranks that it is converted for."""
    sequence = sequence_of(model)
    return StreamScorer(model) if sequence is None else SequenceScorer(model, sequence)
