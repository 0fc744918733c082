"""Sharing documents out among ranks: in steps that all ranks take together."""

from collections.abc import Iterable, Iterator, Sequence


def steps(places: Sequence[int], world_size: int, batch_size: int) -> Iterator[list[list[int]]]:
    """Cut `places` into steps: per step, one list per rank with at most `batch_size` places, perhaps none.

    Consecutive places go to different ranks, and the step after next never begins before this one is done, so
    what is finished is always a beginning of the corpus.
    """
    size = world_size * batch_size
    for start in range(0, len(places), size):
        group = places[start : start + size]
        yield [list(group[rank::world_size]) for rank in range(world_size)]


def grouped_steps(groups: Iterable[list[int]], world_size: int, batch_size: int) -> Iterator[list[list[int]]]:
    """Steps as above, in which each rank works through groups of places of its own, and takes the next after each.

    Groups are taken in their order. What is finished need not be a beginning of the corpus.
    """
    coming, left = iter(groups), [[] for _ in range(world_size)]
    while True:
        left = [own or list(next(coming, [])) for own in left]
        if not any(left):
            return
        yield [own[:batch_size] for own in left]
        left = [own[batch_size:] for own in left]
