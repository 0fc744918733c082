"""One attention layer over one text: its statistics from the hidden states that enter it, block of keys by block."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..attention.config import AttentionLayer
from ..converting.family import Projections
from .logits import Queries
from .plan import Plan
from .statistics import AttentionStatistics, DistanceStatistics

QUERY_BLOCK, KEY_BLOCK = 128, 1024
BLOCK_LOGITS = 2**22
"""Queries and keys of a block, and logits of all heads at most: where there are many heads, a block has fewer keys."""


class ProjectedText:
    """Queries and keys of one text at one layer, float32 `[H, columns, d]`, projected when they are asked for.

    hidden: `[1, n, hidden]`. projected: what `project` gives for all of it, where that must be called only once.
    """

    def __init__(
        self, project: Callable[[Tensor], Projections], hidden: Tensor, projected: Projections | None = None
    ) -> None:
        self.project, self.hidden, self.projected = project, hidden, projected

    def query(self, columns: slice | Tensor) -> Tensor:
        return self._columns(columns, 0)

    def key(self, columns: slice) -> Tensor:
        return self._columns(columns, 1)

    def _columns(self, columns: slice | Tensor, which: int) -> Tensor:
        if self.projected is not None:
            return self.projected[which][0][:, columns].float()
        return self.project(self.hidden[:, columns])[which][0].float()


def measure_attention(text: ProjectedText, layer: AttentionLayer, plan: Plan) -> dict[str, np.ndarray]:
    """The statistics of one layer, float32 and per head: logits `[Hq, bins]`, the others `[Hq, positions]`;
    and `attended`, int64 `[positions]`: the keys that a query attends to.

    NaN, or 0 keys, where the text is too short or no key lies. Time O(n) for the plan's queries, working memory flat
    in n.
    """
    length, device = text.hidden.shape[1], text.hidden.device
    newest = torch.arange(max(0, length - plan.num_queries), length, device=device)
    sampled = torch.from_numpy(plan.positions[plan.positions < length]).to(device)
    newest = [Queries(text.query(at), at, layer) for at in newest.split(QUERY_BLOCK)]
    sampled = [Queries(text.query(at), at, layer) for at in sampled.split(QUERY_BLOCK)]
    heads = newest[0].heads
    distances = DistanceStatistics(heads, torch.from_numpy(plan.distance_edges).to(device))
    attention = [
        AttentionStatistics(heads, len(queries.positions), plan.first_tokens, plan.window, device)
        for queries in sampled
    ]
    size = max(1, min(KEY_BLOCK, BLOCK_LOGITS // (heads * QUERY_BLOCK)))
    for start in range(0, length, size):
        block = _KeyBlock(text, start, min(start + size, length))
        for queries in newest:
            for _, logits, distance in block.attended_by(queries):
                distances.add(logits, int(distance[0, 0]))
        for queries, statistics in zip(sampled, attention):
            for part, logits, distance in block.attended_by(queries):
                statistics.add(part, logits, distance, start)
    return _arrays(distances, attention, len(plan.positions))


class _KeyBlock:
    """The keys start .. stop - 1 of a text, projected once if any query attends to them."""

    def __init__(self, text: ProjectedText, start: int, stop: int) -> None:
        self.text, self.start, self.stop = text, start, stop

    @cached_property
    def key(self) -> Tensor:
        return self.text.key(slice(self.start, self.stop))

    def attended_by(self, queries: Queries) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """The queries that attend to any of the keys, if there are any, with their logits and distances."""
        part = queries.reaching(self.start, self.stop)
        if part.start < part.stop:
            yield part, *queries.logits(part, self.key, self.start)


def _arrays(
    distances: DistanceStatistics, attention: Sequence[AttentionStatistics], positions: int
) -> dict[str, np.ndarray]:
    """The statistics as float32, padded to all positions of the plan."""
    arrays = {f"logit_{name}": values.float().cpu().numpy() for name, values in distances.result().items()}
    chunks = [statistics.result() for statistics in attention]
    for name in chunks[0]:
        values = torch.cat([chunk[name] for chunk in chunks], -1)
        counted = name == "attended"
        missing = positions - values.shape[-1]
        values = F.pad(values if counted else values.float(), (0, missing), value=0 if counted else torch.nan)
        arrays[name] = values.cpu().numpy()
    return arrays
