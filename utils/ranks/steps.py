"""Sharing documents out among ranks: in the corpus's order, in steps that all ranks take together."""

from collections.abc import Iterator, Sequence


def steps(places: Sequence[int], world_size: int, batch_size: int) -> Iterator[list[list[int]]]:
    """Cut `places` into steps: per step, one list per rank with at most `batch_size` places, perhaps none.

    Consecutive places go to different ranks, and the step after next never begins before this one is done, so
    what is finished is always a beginning of the corpus.
    """
    size = world_size * batch_size
    for start in range(0, len(places), size):
        group = places[start : start + size]
        yield [list(group[rank::world_size]) for rank in range(world_size)]
