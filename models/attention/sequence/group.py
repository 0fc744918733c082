"""The ranks that read one sequence together, and what they agree on before each forward."""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from ..bands.config import BandsConfig
from ..config import Method
from ..decode.cache import LambdaCache
from .messages import hearing_others
from .stretches import Stretches, share_of

Ranks = dist.ProcessGroup | DeviceMesh
PADDED, FAILED = -1, -2
"""As a number of tokens: the rank's rows have different ones; what the rank was given is refused there."""


class SequenceGroup:
    """Ranks of a `torch.distributed` group, each with a stretch of one sequence, in the order of their ranks.

    bytes_sent: of keys and values, by this rank, in all forwards so far.
    """

    def __init__(self, group: Ranks) -> None:
        """group: a process group, or a DeviceMesh of one dimension."""
        self.process_group = group.get_group() if isinstance(group, DeviceMesh) else group
        self.rank, self.ranks = dist.get_rank(self.process_group), dist.get_world_size(self.process_group)
        if self.rank < 0:
            raise ValueError("this rank is not in the sequence_group that its model is converted with")
        self.bytes_sent = 0

    def __reduce__(self) -> tuple:
        raise TypeError("a model that reads with a sequence_group belongs to its ranks: revert_model, then save it")

    @property
    def is_last(self) -> bool:
        """Whether this is the rank whose cache holds the window."""
        return self.rank == self.ranks - 1

    def agree(self, tokens: int, rows: int, cache: LambdaCache | None, device: torch.device) -> "Stretch":
        """The forward that all ranks are about to do; each says how many tokens (or PADDED) it has, in how many rows.

        Raises ValueError, on every rank, where their caches or rows do not fit together.
        """
        said = (tokens, rows, *_standing(cache))
        lengths, all_rows, positions, lacking = zip(*self.gather(said, device))
        if FAILED in lengths:
            raise ValueError(
                f"rank {lengths.index(FAILED)} of the sequence_group cannot take part in this forward: its own error "
                "says why"
            )
        if PADDED in lengths:
            raise ValueError(
                "the ranks of a sequence_group read rows of one length: padding is not supported, but for a mask of "
                f"zeros, which says that a rank's stretch is empty, and rank {lengths.index(PADDED)} was given some"
            )
        if len(set(all_rows)) > 1:
            raise ValueError(f"the ranks of a sequence_group read {sorted(set(all_rows))} rows: give all the same")
        if len(set(positions)) > 1:
            raise ValueError(
                f"the caches of a sequence_group's ranks stand at tokens {list(positions)}: all ranks must have read "
                "the same forwards"
            )
        if positions[0] and lacking[-1]:
            raise ValueError("the cache of the sequence_group's last rank lacks the window: it was another rank's")
        if not sum(lengths):
            raise ValueError("no rank of the sequence_group has a token to read")
        return Stretch(self, Stretches(self.rank, positions[0], lengths))

    def fail(self, device: torch.device) -> None:
        """Take this rank's part in `agree`, in which all others are told that it has no forward to do."""
        self.gather((FAILED, 0, 0, 0), device)

    def own(self, columns: Tensor) -> Tensor:
        """This rank's stretch of columns `[B, n]` that every rank has."""
        return columns[:, share_of(self.rank, self.ranks, columns.shape[1])]

    def gather(self, numbers: tuple[int, ...], device: torch.device) -> list[list[int]]:
        """The numbers of every rank. device: where the group's tensors are."""
        mine = torch.tensor(numbers, dtype=torch.int64, device=device)
        theirs = [torch.empty_like(mine) for _ in range(self.ranks)]
        with hearing_others():
            dist.all_gather(theirs, mine, group=self.process_group)
        return torch.stack(theirs).tolist()

    def join(self, mine: Tensor, lengths: list[int]) -> Tensor:
        """The columns of all ranks side by side, `[B, sum(lengths)]`, on every rank. mine: `[B, own length]`."""
        padded = mine.new_zeros(mine.shape[0], max(lengths))
        padded[:, : mine.shape[1]] = mine
        theirs = [torch.empty_like(padded) for _ in lengths]
        with hearing_others():
            dist.all_gather(theirs, padded, group=self.process_group)
        return torch.cat([part[:, :length] for part, length in zip(theirs, lengths)], 1)


@dataclass(frozen=True)
class Stretch:
    """This rank's part in a forward. all: the stretches of all ranks."""

    sequence: SequenceGroup
    all: Stretches

    @property
    def group(self) -> dist.ProcessGroup:
        return self.sequence.process_group

    @property
    def rank(self) -> int:
        return self.sequence.rank

    @property
    def ranks(self) -> int:
        return self.sequence.ranks

    @property
    def is_last(self) -> bool:
        return self.sequence.is_last

    @property
    def tokens(self) -> int:
        """How many tokens this rank has."""
        return self.all.lengths[self.rank]

    def count_sent(self, sent: int) -> None:
        self.sequence.bytes_sent += sent


def _standing(cache: LambdaCache | None) -> tuple[int, int]:
    """Tokens that a cache has read, and whether it lacks their window."""
    if cache is None or not cache.layers[0].is_initialized:
        return 0, 0
    return cache.layers[0].position, int(cache.layers[0].lacks_window)


def check_config(config: Method) -> None:
    """Raise ValueError for a method that needs keys which no rank of a group holds all of."""
    attends_all = config.method if isinstance(config, BandsConfig) else "triangle_offset"
    for name, asked in ((attends_all, config.attends_all), ("top_k_attention", config.top_k)):
        if asked:
            raise ValueError(
                f"{name} attends to all tokens in between, which no rank of a sequence_group holds: leave one of them "
                "out"
            )


def real_tokens(mask: Tensor | None, columns: int) -> int:
    """The tokens of a stretch with so many columns: all, or none where the mask `[B, n]` is zero; else PADDED."""
    if mask is None or bool(mask.all()):
        return columns
    return PADDED if bool(mask.any()) else 0
