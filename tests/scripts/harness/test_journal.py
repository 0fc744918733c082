"""The journal of a trial of examples: what a kill leaves, and what the lines add up to."""

import json

import pytest

from scripts.harness.journal import Journal
from utils.console import Console
from utils.trials.trial import Trial


@pytest.fixture
def trial(tmp_path):
    return Trial.open(str(tmp_path), "eval_generation", {}, Console())


def line(index, part=0, parts=1):
    return {"index": index, "part": part, "parts": parts}


def test_lines_share_their_step_and_are_read_back(trial):
    journal = Journal(trial)
    journal.commit([line(1), line(0)], 3.0, 100)
    journal.commit([line(2)], 0.5, 300)
    journal.commit([], 1.0, 50)
    again = Journal(trial)
    for found in (journal, again):
        assert [entry["index"] for entry in found.lines] == [0, 1, 2] and found.done == {0, 1, 2}
        assert (found.seconds, found.peak_memory) == (3.5, 300)


def test_an_example_of_which_lines_are_missing_is_not_done(trial, tmp_path):
    whole = [line(0, part, 2) for part in range(2)]
    Journal(trial).commit([*whole, line(1, 0, 3), line(1, 1, 3)], 1.0, 1)
    with open(tmp_path / "samples.jsonl", "a") as file:
        file.write('{"index": 2, "pa')
    journal = Journal(trial)
    assert journal.done == {0}
    kept = [json.loads(text) for text in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert [entry["part"] for entry in kept] == [0, 1]


def test_an_empty_journal(trial):
    journal = Journal(trial)
    assert (journal.done, journal.seconds, journal.peak_memory) == (set(), 0, 0)
