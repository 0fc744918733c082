"""Sharing out: every document once, in steps, in order."""

import pytest

from utils.ranks.steps import grouped_steps, steps


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


def test_each_rank_works_through_groups_of_its_own():
    found = list(grouped_steps([[0, 1, 2], [3, 4], [5], [6, 7]], world_size=2, batch_size=2))
    assert found == [[[0, 1], [3, 4]], [[2], [5]], [[6, 7], []]]
    assert list(grouped_steps([[0, 1, 2]], world_size=3, batch_size=1)) == [[[0], [], []], [[1], [], []], [[2], [], []]]
    assert list(grouped_steps([], 2, 1)) == []
