"""Runs of a script that are to be killed: in processes that have imported everything already, or under a launcher.

Of the first kind a process stands where the launcher would: it has started the ranks, and they do not outlive it.
"""

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Protocol

from benchmarks.killing.cases import DEEPSPEED, Case
from benchmarks.killing.processes import descendants, has_variable, parent_of

ROOT = Path(__file__).resolve().parents[2]
PRELOADED = ("benchmarks.killing.preloaded",)
SETTINGS = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


class Run(Protocol):
    """A run, which has been started."""

    @property
    def launchers(self) -> list[int]:
        """The processes that have started the ranks; of one rank alone, none."""
        ...

    @property
    def ranks(self) -> list[int]:
        """The processes of the ranks."""
        ...

    @property
    def processes(self) -> list[int]:
        """All of them."""
        ...

    def status(self) -> int | None:
        """How it has ended, as subprocess tells it; None where it has not."""
        ...


def start(case: Case, flags: Sequence[str], printed: Path) -> Run:
    """Start a run. printed: the file that has what it says."""
    return Forked(case, flags, printed) if case.launcher is None else Launched(case, flags, printed)


class Forked:
    """A run whose processes begin with everything imported."""

    def __init__(self, case: Case, flags: Sequence[str], printed: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(PRELOADED))
        self._alone = case.ranks == 1
        self._process = context.Process(target=_launch, args=(case, flags, printed))
        self._process.start()

    @property
    def launchers(self) -> list[int]:
        return [] if self._alone else [self._process.pid]

    @property
    def ranks(self) -> list[int]:
        pid = self._process.pid
        return [pid] if self._alone else [child for child in descendants(pid) if parent_of(child) == pid]

    @property
    def processes(self) -> list[int]:
        return [self._process.pid, *descendants(self._process.pid)]

    def status(self) -> int | None:
        return self._process.exitcode


OF_RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
"""By which a launcher tells a rank its place: libraries leave them in a process that was one."""


class Launched:
    """A run under `deepspeed` or `torchrun`."""

    def __init__(self, case: Case, flags: Sequence[str], printed: Path) -> None:
        program = Path(sys.executable).parent / case.launcher
        ranks = "--num_gpus" if case.launcher == DEEPSPEED else "--nproc_per_node"
        how = [ranks, str(case.ranks), "--master_port", free_port()]
        command = [str(program), *how, f"scripts/{case.script}.py", *flags]
        kept = {name: value for name, value in os.environ.items() if name not in OF_RANKS}
        environment = kept | SETTINGS | {"PATH": f"{program.parent}:{os.environ['PATH']}"}
        with open(printed, "ab") as output:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
            )

    @property
    def launchers(self) -> list[int]:
        return [process for process in self.processes if not has_variable(process, "RANK")]

    @property
    def ranks(self) -> list[int]:
        started = [process for process in self.processes if has_variable(process, "RANK")]
        return [process for process in started if parent_of(process) not in started]

    @property
    def processes(self) -> list[int]:
        return [self._process.pid, *descendants(self._process.pid)]

    def status(self) -> int | None:
        return self._process.poll()


def free_port() -> str:
    """A port that nobody has now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def _launch(case: Case, flags: Sequence[str], printed: Path) -> NoReturn:
    """In the first process of a run: be the one rank, or start all and wait for them."""
    output = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    if case.ranks == 1:
        _run_rank(case.script, flags, {})
    common = {"WORLD_SIZE": str(case.ranks), "LOCAL_WORLD_SIZE": str(case.ranks), "MASTER_ADDR": "127.0.0.1"}
    common |= {"MASTER_PORT": free_port(), "TORCHELASTIC_RUN_ID": "kills"}  # by which a rank knows that it has one
    ranks = []
    for rank in range(case.ranks):
        process = os.fork()
        if process == 0:
            _run_rank(case.script, flags, {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        ranks.append(process)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in ranks]
    os._exit(int(any(statuses)))


def _run_rank(script: str, flags: Sequence[str], variables: Mapping[str, str]) -> NoReturn:
    """Run the script as a command, and end this process as it ends."""
    os.environ |= variables
    path = str(ROOT / "scripts" / f"{script}.py")
    sys.argv = [path, *flags]
    status = 1
    try:
        runpy.run_path(path, run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
