"""Ranks of a script as a launcher starts them, in processes that have imported everything already."""

import importlib
import multiprocessing
import os
import sys
import time
from contextlib import contextmanager

from models.converting import attention_module
from tests.scripts.running import free_port
from utils.program import run_main

ENDS_WITHIN = 120  # seconds


def _rank(script, flags, variables, printed, fails):
    """A rank's process. printed: the file that has what it says. fails: whether its memory runs out in a layer."""
    os.environ |= variables
    if fails:
        attention_module.attend_stretch = run_out_of_memory
    output = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.argv = [f"scripts/{script}.py", *map(str, flags)]
    run_main(importlib.import_module(f"scripts.{script}").main, resumes=True)
    os._exit(0)


def run_out_of_memory(*_):
    raise RuntimeError("can't allocate memory")


class Ranks:
    """Started at once; `wait` gives their exit statuses and takes `seconds`; `said` is what they printed.

    failing: the rank whose memory runs out.
    """

    def __init__(self, script, ranks, flags, printed, failing=None) -> None:
        context, self.printed = multiprocessing.get_context("forkserver"), printed
        context.set_forkserver_preload(["tests.scripts.ranks_here", "scripts.streaming.experiment"])
        common = {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1"}
        common |= {"MASTER_PORT": free_port(), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self.processes = [
            context.Process(
                target=_rank,
                args=(script, flags, {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}, printed, rank == failing),
            )
            for rank in range(ranks)
        ]
        for process in self.processes:
            process.start()

    def wait(self):
        begun = time.monotonic()
        deadline = begun + ENDS_WITHIN
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
            process.kill()
            process.join()
        self.seconds = time.monotonic() - begun
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
    printed = log_dir.with_suffix(".killed")
    printed.unlink(missing_ok=True)
    started = Ranks(script, ranks, (*flags, "--log_dir", log_dir, "--rank_timeout", 30), printed)
    yield started
    started.processes[victim].kill()
    assert all(started.wait()), started.said
    assert "Traceback" not in started.said
    said = [line for line in started.said.splitlines() if line.startswith("error")]
    assert ranks == 1 or 1 <= len(said) < ranks, started.said  # more than one where the store went with the first rank
