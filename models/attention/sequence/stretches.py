"""Which tokens each rank has, and which of the others' it needs: arithmetic only.

In a forward the ranks of a group hold consecutive stretches of the tokens that are read next. A query needs the L - 1
tokens before its own, and the first G of the sequence. What was read in forwards before lies in the last rank's cache.
"""

from dataclasses import dataclass
from typing import NamedTuple


class Piece(NamedTuple):
    """Tokens first .. last - 1, by position, that `source` has: in its stretch, or `cached` in its window."""

    source: int
    first: int
    last: int
    cached: bool = False


@dataclass(frozen=True)
class Stretches:
    """The stretches of a forward. before: tokens read in forwards before. lengths: tokens of each rank, some perhaps 0.

    rank: this one's place in the group.
    """

    rank: int
    before: int
    lengths: tuple[int, ...]

    @property
    def last_rank(self) -> int:
        return len(self.lengths) - 1

    @property
    def new_tokens(self) -> int:
        return sum(self.lengths)

    @property
    def end(self) -> int:
        """The position of the token after all of them."""
        return self.before + self.new_tokens

    def start(self, rank: int) -> int:
        """The position of a rank's first token."""
        return self.before + sum(self.lengths[:rank])

    def window_of(self, rank: int, local_branch: int) -> list[Piece]:
        """The tokens of others, and of its own cache, that a rank needs in front of its stretch, oldest first.

        A rank without tokens needs none; the last one always does, since its cache is what the next forward needs.
        """
        if not self.lengths[rank] and rank != self.last_rank:
            return []
        start = self.start(rank)
        return self._pieces(max(0, start - local_branch + 1), start)

    def first_tokens(self, global_branch: int) -> list[Piece]:
        """Those of the first `global_branch` tokens of the sequence that this forward reads."""
        return self._pieces(self.before, min(self.end, global_branch))

    def _pieces(self, first: int, last: int) -> list[Piece]:
        """Tokens first .. last - 1 by who has them."""
        held = [Piece(self.last_rank, 0, self.before, cached=True)]
        held += [Piece(rank, self.start(rank), self.start(rank + 1)) for rank in range(len(self.lengths))]
        cut = (piece._replace(first=max(first, piece.first), last=min(last, piece.last)) for piece in held)
        return [piece for piece in cut if piece.first < piece.last]


def share_of(rank: int, ranks: int, tokens: int) -> slice:
    """A rank's stretch of so many tokens, as even as can be; the last one has a token where there is any."""
    return slice(tokens * rank // ranks, tokens * (rank + 1) // ranks)
