"""Ranks of a script as a launcher starts them, in processes that have imported everything already."""

import importlib
import multiprocessing
import os
import sys
import time
from contextlib import contextmanager

from tests.scripts.running import free_port
from utils.program import run_main

ENDS_WITHIN = 120  # seconds


def _rank(script, flags, variables, printed):
    """A rank's process; `printed`: the file that has what it says."""
    os.environ |= variables
    output = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.argv = [f"scripts/{script}.py", *map(str, flags)]
    run_main(importlib.import_module(f"scripts.{script}").main, resumes=True)
    os._exit(0)


class Ranks:
    """Started at once; `wait` gives their exit statuses, and `said` what they printed."""

    def __init__(self, script, ranks, flags, printed) -> None:
        context, self.printed = multiprocessing.get_context("forkserver"), printed
        context.set_forkserver_preload(["tests.scripts.ranks_here", "scripts.streaming.experiment"])
        common = {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1"}
        common |= {"MASTER_PORT": free_port(), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self.processes = [
            context.Process(
                target=_rank, args=(script, flags, {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}, printed)
            )
            for rank in range(ranks)
        ]
        for process in self.processes:
            process.start()

    def wait(self):
        deadline = time.monotonic() + ENDS_WITHIN
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
            process.kill()
            process.join()
        return [process.exitcode for process in self.processes]

    @property
    def said(self):
        return self.printed.read_text() if self.printed.exists() else ""


def run_ranks(script, ranks, *flags, log_dir):
    """Run it to its end, in success."""
    started = Ranks(script, ranks, (*flags, "--log_dir", log_dir), log_dir.with_suffix(".said"))
    assert started.wait() == [0] * ranks, started.said


@contextmanager
def killing(script, ranks, victim, *flags, log_dir):
    """Start it; after the block rank `victim` is killed, and all ranks must have ended in time."""
    started = Ranks(script, ranks, (*flags, "--log_dir", log_dir, "--rank_timeout", 5), log_dir.with_suffix(".said"))
    yield started
    started.processes[victim].kill()
    assert all(started.wait()), started.said
