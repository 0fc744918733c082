"""The NLL of a long text or endless stream, chunk by chunk: what one chunk leaves for the next is kept in between."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..assumptions import with_cache
from ..attention.decode.cache_state import bytes_per_token, cache_tensors, restore_cache
from ..converting.wrappers import base_model
from ..model_base import empty_cache
from .host_copy import HostCopies
from .nll_scorer import NllScorer

LAST_HIDDEN = "last_hidden"


class StreamScorer(NllScorer):
    """An NllScorer of which each call continues the streams, one per batch row, where the last one ended.

    It keeps the cache and the hidden state of the last token, `[batch, 1, hidden]`: the LM head gives the NLL of the
    first token of the next chunk from it. A converted model's cache is bounded, a vanilla one's holds every token.
    Under ZeRO-3 the base model and the head are each called as modules exactly once per chunk.
    """

    def __init__(self, model: PreTrainedModel, compiled: bool = True) -> None:
        super().__init__(model, compiled)
        self.reset()

    def reset(self) -> None:
        """Begin new streams."""
        self.cache = empty_cache(self.model)
        self.last_hidden: Tensor | None = None

    def forward(self, input_ids: Tensor, ends: bool = False) -> Tensor:
        """NLL in nats of the chunk's tokens, float32 [batch, n]; without the first token at a stream's beginning.

        input_ids: int64 [batch, n], n >= 1; a row that has ended is padded on the right, and what is returned there
        means nothing. ends: nothing comes after this chunk, so new streams begin behind it; a text of only one chunk is
        read without a cache.
        """
        before, targets = self.last_hidden, input_ids
        if before is None:
            if ends:
                return super().forward(input_ids)
            targets = targets[:, 1:]
        hidden = self._read(input_ids)
        shifted = hidden[:, :-1] if before is None else torch.cat([before.to(hidden.device), hidden[:, :-1]], dim=1)
        if ends:
            self.reset()
        return self.score(shifted, targets)

    def _read(self, input_ids: Tensor) -> Tensor:
        """The hidden states of a chunk, `[batch, n, hidden]`; cache and last hidden state then stand behind it."""
        base = base_model(self.model)
        hidden = base(input_ids=input_ids, **with_cache(base, self.cache), use_cache=True)[0]
        self.last_hidden = hidden[:, -1:].clone()  # a view would keep the whole chunk alive
        return hidden

    def state(self, row: int) -> HostCopies:
        """Everything that the next chunk of one row needs, as it is now: copies on the CPU, by name, each [1, ...]."""
        tensors = {LAST_HIDDEN: self.last_hidden, **cache_tensors(self.cache)}
        return HostCopies({name: tensor[row : row + 1] for name, tensor in tensors.items()})

    def restore(self, rows: list[dict[str, Tensor]], position: int, device: torch.device) -> None:
        """Go on where rows ended that had each read `position` tokens. rows: the copies that `state` gave of each.

        device: where input ids go.
        """
        self._read_one_token(len(rows), device)  # which tells the device of each layer
        joined = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
        self.last_hidden = joined.pop(LAST_HIDDEN).to(self.last_hidden.device)
        restore_cache(self.cache, joined, position)

    def bytes_per_token(self, device: torch.device) -> int:
        """The bytes that the cache of one stream grows by with each token, 0 if it is bounded; begins new streams."""
        self._read_one_token(1, device)
        found = bytes_per_token(self.cache)
        self.reset()
        return found

    @torch.no_grad()
    def _read_one_token(self, rows: int, device: torch.device) -> None:
        self.reset()
        self(torch.zeros(rows, 1, dtype=torch.int64, device=device))
