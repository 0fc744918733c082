"""Statistics of logits that come block by block: numbers per bin of distance, and per query."""

import torch
from torch import Tensor
from torch.nn import functional as F

INFINITY = float("inf")


class DistanceStatistics:
    """Largest and mean logit per head and bin of relative distance, over consecutive queries and all their keys.

    edges: int64 `[bins + 1]`, as in `Plan`; no distance may lie beyond the last one.
    """

    def __init__(self, heads: int, edges: Tensor) -> None:
        bins = len(edges) - 1
        self.edges = edges
        self.largest = torch.full((heads, bins), -INFINITY, dtype=torch.float64, device=edges.device)
        self.sums = torch.zeros_like(self.largest)
        self.pairs = torch.zeros(bins, dtype=torch.int64, device=edges.device)

    def add(self, logits: Tensor, first_distance: int) -> None:
        """logits `[heads, m, k]` of consecutive queries and keys; first_distance: of the first query to the first
        key.
        """
        sheared = along_distances(logits)
        attended = sheared[0] > -INFINITY
        lowest = first_distance - logits.shape[-1] + 1
        distances = torch.arange(lowest, lowest + sheared.shape[-1], device=logits.device)
        bins = torch.bucketize(distances.clamp(min=0), self.edges, right=True) - 1
        self.pairs.index_add_(0, bins, attended.sum(0))
        self.largest.scatter_reduce_(1, bins.expand(len(sheared), -1), sheared.amax(1).double(), "amax")
        self.sums.index_add_(1, bins, sheared.masked_fill(~attended, 0.0).sum(1, dtype=torch.float64))

    def result(self) -> dict[str, Tensor]:
        """float64 `[heads, bins]`, NaN where no key was attended: max, mean, and bound, the running maximum of max over
        distance up to the farthest key.
        """
        seen = self.pairs > 0
        reached = seen.flip(0).cummax(0).values.flip(0)
        nan = torch.tensor(torch.nan, dtype=torch.float64, device=seen.device)
        return {
            "max": torch.where(seen, self.largest, nan),
            "mean": torch.where(seen, self.sums / self.pairs, nan),
            "bound": torch.where(reached, self.largest.cummax(1).values, nan),
        }


def along_distances(logits: Tensor) -> Tensor:
    """`[heads, m, k]` to `[heads, m, m + k - 1]`, whose columns hold one distance each, ascending; -inf elsewhere.

    Rows are queries and columns keys, each consecutive: with the keys reversed, row r has only to move r places right,
    which is what a row of length m + k read as one of m + k - 1 does.
    """
    heads, rows, columns = logits.shape
    padded = F.pad(logits.flip(-1), (0, rows), value=-INFINITY)
    return padded.flatten(1)[:, :-rows].view(heads, rows, rows + columns - 1)


class AttentionStatistics:
    """Entropy of each query's attention and the shares of its mass, by a softmax that goes on from block to block.

    Kept per head and query, in float64 and relative to the largest logit so far: the sums over keys of the weight
    w = exp(logit - largest), of w * (logit - largest), and of w over the first keys and over those in the window.
    """

    def __init__(self, heads: int, queries: int, first_tokens: int, window: int, device: torch.device) -> None:
        self.first_tokens, self.window = first_tokens, window
        self.largest = torch.full((heads, queries), -INFINITY, dtype=torch.float64, device=device)
        self.total, self.weighted, self.first, self.near = (torch.zeros_like(self.largest) for _ in range(4))
        self.attended = torch.zeros(queries, dtype=torch.int64, device=device)

    def add(self, part: slice, logits: Tensor, distance: Tensor, start: int) -> None:
        """logits `[heads, m, k]` of the queries in `part` to the keys from `start` on; distance: int64 `[m, k]`."""
        unattended = logits == -INFINITY
        self.attended[part] += (~unattended[0]).sum(-1)
        largest = torch.maximum(self.largest[:, part], logits.amax(-1).double())
        shift = torch.where(largest > -INFINITY, largest, 0.0)  # a query may attend to none of these keys
        self._rescale(part, shift)
        self.largest[:, part] = largest

        logits = logits - shift.float()[:, :, None]
        weights = logits.exp()
        first = torch.arange(start, start + logits.shape[-1], device=logits.device) < self.first_tokens
        near = (distance < self.window) & ~first
        self.total[:, part] += weights.sum(-1)
        self.weighted[:, part] += (weights * logits.masked_fill_(unattended, 0.0)).sum(-1)
        self.first[:, part] += weights[:, :, first].sum(-1)
        self.near[:, part] += (weights * near).sum(-1)

    def _rescale(self, part: slice, shift: Tensor) -> None:
        """Have the sums refer to another largest logit, `[heads, m]`."""
        change = torch.where(self.total[:, part] > 0, self.largest[:, part] - shift, 0.0)
        self.weighted[:, part] += change * self.total[:, part]
        for sums in (self.total, self.weighted, self.first, self.near):
            sums[:, part] *= change.exp()

    def result(self) -> dict[str, Tensor]:
        """float64 `[heads, queries]`: entropy in nats, shares of the mass; attended: keys, int64 `[queries]`."""
        first, window = self.first / self.total, self.near / self.total
        return {
            "entropy": self.total.log() - self.weighted / self.total,
            "mass_first": first,
            "mass_window": window,
            "mass_middle": (1 - first - window).clamp(min=0),
            "attended": self.attended,
        }
