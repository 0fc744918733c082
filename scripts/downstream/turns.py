"""The order in which examples are put to the model, and a look at those that come."""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import groupby, islice

from data.tasks.task import Example
from utils.errors import UserError

LOOKED_AT = 32
"""Batches that are read before their turn at most: so many prompts are held at once."""
LARGEST_GROUP = 64
"""Examples of one document that one rank is given: where there is only one document, other ranks get work too."""

Prepared = tuple[Example, list[int]]


def groups(places: Sequence[int], beginning: Callable[[int], Hashable], batch_size: int) -> Iterator[list[int]]:
    """Cut `places` where the beginning changes; those that share theirs with no neighbour come in batches."""
    alone: list[int] = []
    for _, sharing in groupby(places, beginning):
        while group := list(islice(sharing, LARGEST_GROUP)):
            if len(group) == 1:
                alone += group
            if alone and (len(group) > 1 or len(alone) == batch_size):
                yield alone
                alone = []
            if len(group) > 1:
                yield group
    if alone:
        yield alone


class Turns:
    """A rank's batches of places in turn; each example is prepared once, also where it is looked at before its turn.

    prepare: from a place to the example and the tokens of its prompt; raises UserError where it cannot be read.
    """

    def __init__(self, batches: Iterable[list[int]], prepare: Callable[[int], Prepared]) -> None:
        self._batches, self._prepare = iter(batches), prepare
        self._coming: deque[list[int]] = deque()
        self._prepared: dict[int, Prepared] = {}

    def __iter__(self) -> Iterator[list[int]]:
        while self._reach(1):
            yield self._coming.popleft()

    def take(self, batch: Sequence[int]) -> list[Prepared]:
        """The examples of a batch whose turn it is, with their prompts."""
        return [self._prepared.pop(place, None) or self._prepare(place) for place in batch]

    def coming(self) -> Iterator[list[list[int]]]:
        """The prompts of the batches that come, as far as they can be read: the turn of the next one says why not."""
        for ahead in range(1, LOOKED_AT + 1):
            if not self._reach(ahead) or not self._coming[ahead - 1]:
                return
            try:
                prompts = [self._look_at(place)[1] for place in self._coming[ahead - 1]]
            except UserError:
                return
            yield prompts

    def _look_at(self, place: int) -> Prepared:
        if place not in self._prepared:
            self._prepared[place] = self._prepare(place)
        return self._prepared[place]

    def _reach(self, count: int) -> bool:
        """Have so many batches come; returns whether there are as many."""
        while len(self._coming) < count:
            batch = next(self._batches, None)
            if batch is None:
                return False
            self._coming.append(batch)
        return True
