"""Sharing out: every document once, in steps, in order."""

import pytest

from utils.ranks.steps import steps


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
