"""One attention layer over one text: its statistics from the hidden states that enter it, block of keys by block."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from models.conversion import Projections
from models.diagnosis.logits import Queries
from models.diagnosis.plan import Plan
from models.diagnosis.statistics import AttentionStatistics, DistanceStatistics
from models.lambda_config import AttentionLayer

KEY_BLOCK = 1024
BLOCK_LOGITS = 2**22
"""Keys of a block, and logits of all heads at most: where there are many queries, a block has fewer keys."""

STATISTICS = ("logit_max", "logit_mean", "logit_bound", "entropy", "mass_first", "mass_window", "mass_middle")


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
    """The arrays named in STATISTICS, float32 and per head: logits `[Hq, bins]`, the others `[Hq, len(positions)]`; and
    `attended`, int64 `[len(positions)]`: the keys that a query attends to.

    NaN, or 0 keys, where the text is too short or no key lies. Time O(n) for the plan's queries, working memory flat
    in n.
    """
    length, device = text.hidden.shape[1], text.hidden.device
    newest = torch.arange(max(0, length - plan.num_queries), length, device=device)
    sampled = torch.from_numpy(plan.positions[plan.positions < length]).to(device)
    groups = [Queries(text.query(at), at, layer) for at in (newest, sampled)]
    heads = groups[0].near.shape[0]
    distances = DistanceStatistics(heads, torch.from_numpy(plan.distance_edges).to(device))
    attention = AttentionStatistics(heads, len(sampled), plan.first_tokens, plan.window, device)

    size = max(1, min(KEY_BLOCK, BLOCK_LOGITS // (heads * max(len(newest), len(sampled)))))
    for start in range(0, length, size):
        stop = min(start + size, length)
        parts = [group.reaching(start, stop) for group in groups]
        if all(part.start == part.stop for part in parts):
            continue
        key = text.key(slice(start, stop))
        for group, part in zip(groups, parts):
            if part.start == part.stop:
                continue
            logits, distance = group.logits(part, key, start)
            if group is groups[0]:
                distances.add(logits, int(distance[0, 0]))
            else:
                attention.add(part, logits, distance, start)
    return _arrays(distances, attention, len(plan.positions))


def _arrays(distances: DistanceStatistics, attention: AttentionStatistics, positions: int) -> dict[str, np.ndarray]:
    found = {f"logit_{name}": values.cpu().numpy() for name, values in distances.result().items()}
    for name, values in attention.result().items():
        values = values.cpu().numpy()
        missing = [(0, 0)] * (values.ndim - 1) + [(0, positions - values.shape[-1])]
        found[name] = np.pad(values, missing, constant_values=0 if name == "attended" else np.nan)
    return {name: values if name == "attended" else values.astype(np.float32) for name, values in found.items()}
