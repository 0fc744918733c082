"""When a checkpoint is due, by a clock that stands still unless told otherwise."""

import pytest

from scripts.streaming import schedule
from scripts.streaming.arguments import StreamPlan
from scripts.streaming.schedule import GO_ON, SAVE, STOP, Schedule


class Clock:
    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(schedule, "monotonic", clock)
    return clock


def plan(save_steps=None, save_seconds=None, max_seconds=None):
    return StreamPlan(10**6, 4096, "none", 1, save_steps, save_seconds, max_seconds, False, None)


def decisions(clock, plan, chunk_seconds, chunks, begun=1000.0, is_writing=False):
    found, due = Schedule(plan, begun), []
    for chunk in range(1, chunks + 1):
        clock.now += chunk_seconds
        due.append(found.decide(chunk, is_writing))
    return due


@pytest.mark.parametrize(
    "given, places",
    [
        ({}, [6, 12, 18]),
        ({"save_seconds": 25}, [3, 6, 9, 12, 15, 18]),
        ({"save_steps": 5}, [5, 10, 15, 20]),
        ({"save_steps": 5, "save_seconds": 30}, [3, 5, 8, 10, 13, 15, 18, 20]),
        ({"save_steps": 100, "save_seconds": 10**6}, []),
    ],
    ids=["60 seconds", "seconds", "steps alone, as published", "whichever comes first", "neither"],
)
def test_a_checkpoint_is_due(given, places, clock):
    due = decisions(clock, plan(**given), 10, 20)
    assert [place + 1 for place, decision in enumerate(due) if decision == SAVE] == places
    assert set(due) <= {SAVE, GO_ON}


def test_one_by_time_waits_for_the_end_of_the_one_before_and_one_by_steps_does_not(clock):
    assert decisions(clock, plan(), 100, 5, is_writing=True) == [GO_ON] * 5
    assert decisions(clock, plan(save_steps=1), 100, 5, is_writing=True) == [SAVE] * 5


def test_the_end_comes_at_the_first_chunk_after_its_time(clock):
    assert decisions(clock, plan(max_seconds=50, save_steps=2), 10, 4, begun=980.0) == [GO_ON, SAVE, STOP, STOP]
