"""Ranks that live are waited for, ranks that are gone are not: processes that are stopped and killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.scripts.running import free_port

RANK = Path(__file__).with_name("rank.py")
TIMEOUT = 8


class Job:
    """Ranks that have joined, `roles[rank]` each; they are ended with the test."""

    def __init__(self, folder, roles, timeout=TIMEOUT, world_size=None, started=None):
        self.folder, port = folder, free_port()
        self.ranks = []
        for rank, role in enumerate(roles):
            world = {"RANK": rank, "WORLD_SIZE": world_size or len(roles), "LOCAL_RANK": rank}
            world |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
            environment = os.environ | {name: str(value) for name, value in world.items()}
            with open(folder / f"out{rank}", "w") as out, open(folder / f"err{rank}", "w") as err:
                started = len(roles) if started is None else started
                command = [sys.executable, RANK, str(timeout), role, folder, str(started)]
                self.ranks.append(subprocess.Popen(command, env=environment, stdout=out, stderr=err))

    def wait_for(self, word):
        end = time.monotonic() + 90
        while not all(word in (self.folder / f"out{rank}").read_text() for rank in range(len(self.ranks))):
            assert time.monotonic() < end and all(rank.poll() is None for rank in self.ranks), self.said()
            time.sleep(0.05)

    def said(self):
        return [(self.folder / f"err{rank}").read_text() for rank in range(len(self.ranks))]

    def end(self):
        for rank in self.ranks:
            rank.kill()
            rank.wait()


@pytest.fixture
def start(tmp_path):
    jobs = []

    def start(*roles, **options):
        jobs.append(Job(tmp_path, roles, **options))
        return jobs[-1]

    yield start
    for job in jobs:
        job.end()


def test_a_rank_that_computes_is_waited_for_beyond_the_timeout(start):
    job = start("answers", str(2.0 * TIMEOUT), "answers")
    assert [rank.wait(90) for rank in job.ranks] == [0, 0, 0]
    assert job.said() == ["", "", ""]


@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_is_stopped_ends_the_others_in_time_with_one_sentence(start, victim):
    job = start("computes", "answers", "computes")
    job.wait_for("joined")
    os.kill(job.ranks[victim].pid, signal.SIGSTOP)
    stopped = time.monotonic()
    others = [rank for rank in range(3) if rank != victim]
    assert [job.ranks[rank].wait(TIMEOUT + 5) for rank in others] == [1, 1]
    assert TIMEOUT / 2 < time.monotonic() - stopped < TIMEOUT + 2
    (sentence,) = "".join(job.said()).splitlines()
    assert f"lost rank {victim} on " in sentence and f"--rank_timeout {TIMEOUT} seconds" in sentence
    assert sentence.startswith("error" if victim else "error (rank 1)") and "goes on where it stopped" in sentence
    if victim:
        assert (job.folder / "log.txt").read_text() == f"{sentence}\n"


@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_is_killed_ends_those_that_listen_at_once_with_one_sentence(start, victim):
    job = start(*["computes" if rank == victim else "answers" for rank in range(3)], timeout=60)
    job.wait_for("joined")
    job.ranks[victim].kill()
    others = [rank for rank in range(3) if rank != victim]
    assert [job.ranks[rank].wait(20) for rank in others] == [1, 1]
    (sentence,) = "".join(job.said()).splitlines()
    assert "another rank has ended before its work was done" in sentence


def test_ranks_that_are_all_stopped_and_go_on_are_not_lost(start):
    job = start("answers", str(2.0 * TIMEOUT))
    job.wait_for("joined")
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for rank in job.ranks:
            os.kill(rank.pid, number)
        time.sleep(1.5 * TIMEOUT if number == signal.SIGSTOP else 0)
    assert [rank.wait(90) for rank in job.ranks] == [0, 0]


def test_a_rank_that_does_not_come_is_named(start):
    job = start("answers", "answers", timeout=10, world_size=4)
    assert job.ranks[0].wait(60) == 2
    assert job.said()[0].startswith("error: ranks 2 and 3 of 4 did not come within --rank_timeout 10 seconds")


def test_a_first_rank_that_is_not_there_is_one_sentence(start):
    job = start("answers", "answers", timeout=4, started=0)
    job.ranks[0].kill()
    assert job.ranks[1].wait(60) == 2
    (sentence,) = job.said()[1].splitlines()
    assert sentence.startswith("error (rank 1): rank 1 cannot meet the others at 127.0.0.1:")
    assert "within --rank_timeout 4 seconds (" in sentence
