"""Sharing documents out among ranks: in the corpus's order, in steps that all ranks take together."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from utils.ranks.runtime import Runtime


def steps(places: Sequence[int], world_size: int, batch_size: int) -> Iterator[list[list[int]]]:
    """Cut `places` into steps: per step, one list per rank with at most `batch_size` places, perhaps none.

    Consecutive places go to different ranks, and the step after next never begins before this one is done, so
    what is finished is always a beginning of the corpus.
    """
    size = world_size * batch_size
    for start in range(0, len(places), size):
        group = places[start : start + size]
        yield [list(group[rank::world_size]) for rank in range(world_size)]


def work_through(
    places: Sequence[int],
    runtime: "Runtime",
    batch_size: int,
    work: Callable[[list[int]], Any],
    commit: Callable[[list[Any], float], None],
) -> None:
    """In each step every rank does `work` on its places, and the first one keeps what all of them return.

    work: its value must fit into JSON. commit: gets the values in rank order and the step's wall time in seconds.
    """
    for step in steps(places, runtime.world_size, batch_size):
        started = time.monotonic()
        gathered = runtime.gather(work(step[runtime.rank]))
        seconds = time.monotonic() - started
        with runtime.together():
            if runtime.is_main:
                commit(gathered, seconds)
