"""Sharing out: every document once, in steps, in order."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from utils.ranks.steps import steps, work_through


@pytest.mark.parametrize("documents", [0, 1, 5, 12])
@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_every_place_once_and_never_out_of_step(documents, world_size, batch_size):
    seen = []
    for step in steps(range(documents), world_size, batch_size):
        assert len(step) == world_size
        assert all(len(places) <= batch_size for places in step)
        seen += sorted(place for places in step for place in places)
    assert seen == list(range(documents))


@pytest.mark.parametrize("rank", [0, 1])
def test_each_rank_does_its_places_and_the_first_keeps_what_all_did(rank):
    done, kept = [], []

    def work(places):
        done.append(places)
        return places

    runtime = SimpleNamespace(
        rank=rank,
        world_size=2,
        gather=lambda value: [value, "the other's"] if rank == 0 else [],
        is_main=rank == 0,
        together=nullcontext,
    )
    work_through([3, 5, 6], runtime, 1, work, lambda gathered, seconds: kept.append((gathered, seconds >= 0)))
    assert done == [[[3], [6]], [[5], []]][rank]
    assert kept == ([([[3], "the other's"], True), ([[6], "the other's"], True)] if rank == 0 else [])
