"""The order of examples: documents together, each prepared once, and a look at those that come."""

import pytest

from scripts.downstream import turns
from scripts.downstream.turns import LOOKED_AT, Turns, groups
from utils.errors import UserError


@pytest.mark.parametrize(
    "beginnings, batch_size, expected",
    [
        ("aaabbc", 2, [[0, 1, 2], [3, 4], [5]]),
        ("abcde", 2, [[0, 1], [2, 3], [4]]),
        ("abccd", 3, [[0, 1], [2, 3], [4]]),
        ("aba", 1, [[0], [1], [2]]),
        ("", 2, []),
    ],
)
def test_groups(beginnings, batch_size, expected):
    assert list(groups(range(len(beginnings)), lambda place: beginnings[place], batch_size)) == expected


def test_a_large_group_is_cut_so_that_other_ranks_have_work(monkeypatch):
    monkeypatch.setattr(turns, "LARGEST_GROUP", 3)
    assert list(groups(range(8), lambda place: "a", 1)) == [[0, 1, 2], [3, 4, 5], [6, 7]]


class Reading:
    """Prepares places; 7 cannot be read."""

    def __init__(self):
        self.read = []

    def __call__(self, place):
        if place == 7:
            raise UserError("no such example")
        self.read.append(place)
        return f"example {place}", [place]


def test_each_example_is_prepared_once_and_those_that_come_only_when_looked_at():
    reading = Reading()
    ours, taken = Turns([[0, 1], [2], [3], [4]], reading), []
    for batch in ours:
        taken += ours.take(batch)
        if batch == [0, 1]:
            coming = ours.coming()
            assert reading.read == [0, 1] and next(coming) == [[2]] and next(coming) == [[3]]
            assert reading.read == [0, 1, 2, 3]
    assert reading.read == [0, 1, 2, 3, 4] and [prompt for _, prompt in taken] == [[0], [1], [2], [3], [4]]


def test_what_cannot_be_read_is_an_error_at_its_own_turn():
    ours, done = Turns([[5], [6], [7], [8]], Reading()), []
    with pytest.raises(UserError, match="no such example"):
        for batch in ours:
            ours.take(batch)
            assert len(list(ours.coming())) == {5: 1, 6: 0}[batch[0]]
            done += batch
    assert done == [5, 6]


def test_a_look_ends_at_a_batch_without_examples_and_goes_no_further_than_so_many():
    empty = Turns([[0], [], [1]], Reading())
    assert next(iter(empty)) == [0] and list(empty.coming()) == []
    many = Turns(([place] for place in range(100, 200)), Reading())
    next(iter(many))
    assert len(list(many.coming())) == LOOKED_AT
