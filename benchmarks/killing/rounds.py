"""Rounds of kills: a trial is killed at random moments of its work, gone on with to its end, and compared."""

import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.killing.cases import Case, flags_of
from benchmarks.killing.comparing import differences
from benchmarks.killing.processes import have_ended, kill
from benchmarks.killing.runs import Run, start
from utils.errors import UserError
from utils.trials.files import RESULTS, SAMPLES

ALL, RANK, LAUNCHER = "all", "a rank", "the launcher"
RANK_TIMEOUT = 20
ENDS_WITHIN = 2 * RANK_TIMEOUT
"""Seconds in which what is left of a killed run must end."""
FINISHES_WITHIN = 240
"""Seconds in which a run that nobody kills must end."""
MOST_DELAY = 0.05
"""Seconds between a line of the journal that is waited for and the kill, at most."""
LOOK_SECONDS = 0.001


@dataclass
class Outcome:
    """Rounds of a case. kills: those that hit work, by what was killed. missed: those that came too late."""

    case: str
    rounds: int = 0
    kills: dict[str, int] = field(default_factory=dict)
    missed: int = 0
    differences: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)

    @property
    def hits(self) -> int:
        return sum(self.kills.values())


class Rounds:
    """The rounds of one case, in a folder of its own."""

    def __init__(self, case: Case, inputs: Path, folder: Path, seed: int, finishes_within: float = FINISHES_WITHIN):
        """inputs: where `cases.prepare` has put the model and the texts."""
        self.case, self.folder, self.finishes_within = case, folder, finishes_within
        self.flags = flags_of(case, inputs) + (["--rank_timeout", str(RANK_TIMEOUT)] if case.ranks > 1 else [])
        self.random = random.Random(f"{seed}/{case.name}")
        self.outcome = Outcome(case.name)
        folder.mkdir()

    def begin(self) -> None:
        """Have the uninterrupted trial. Raises UserError where it fails."""
        if self.finish("whole") != 0:
            raise UserError(f"{self.case.name} does not run to its end uninterrupted: {self.said('whole')}")
        self.lines = lines_of(self.folder / "whole" / SAMPLES)

    def round(self, kills: int) -> None:
        """Kill a trial so many times, or until it is finished; then finish it and compare."""
        name = f"round_{self.outcome.rounds}"
        self.outcome.rounds += 1
        for _ in range(kills):
            if (self.folder / name / RESULTS).exists() or not self.interrupt(name, self.lines // (kills + 1)):
                break
        status = self.finish(name)
        if status is None:
            return
        if status != 0:
            self.outcome.differences.append(f"{name} ends with {status}: {self.said(name)}")
            return
        found = differences(self.folder / name, self.folder / "whole")
        self.outcome.differences += [f"{name}: {difference}" for difference in found]
        if not found:
            shutil.rmtree(self.folder / name)

    def interrupt(self, name: str, lines: int) -> bool:
        """Run, and kill once up to so many lines are in its journal; False where that cannot be gone on from."""
        run = self.start(name)
        wanted, delay = self.random.randint(1, max(lines, 1)), self.random.uniform(0, MOST_DELAY)
        kind = self.random.choice([ALL, RANK, LAUNCHER] if self.case.ranks > 1 else [ALL])
        place = self.random.random()
        if not wait_for_lines(self.folder / name / SAMPLES, wanted, run, self.finishes_within):
            self.outcome.hangs.append(f"{name} does no work: {self.said(name)}")
            self.end(run)
            return False
        time.sleep(delay)
        everything = run.processes
        kill(victims(run, kind, place))
        if not have_ended(everything, ENDS_WITHIN):
            self.outcome.hangs.append(f"{name} goes on after a kill of {kind}: {self.said(name)}")
            kill(everything)
            return False
        run.status()
        if (self.folder / name / RESULTS).exists():
            self.outcome.missed += 1
        else:
            self.outcome.kills[kind] = self.outcome.kills.get(kind, 0) + 1
        return True

    def finish(self, name: str) -> int | None:
        """Run to the end; the exit status, None where it does not end."""
        run = self.start(name)
        deadline = time.monotonic() + self.finishes_within
        while (status := run.status()) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if status is None:
            self.outcome.hangs.append(f"{name} does not end: {self.said(name)}")
            self.end(run)
        return status

    def start(self, name: str) -> Run:
        flags = [*self.flags, "--log_dir", str(self.folder / name)]
        return start(self.case, flags, self.folder / f"{name}.txt")

    def end(self, run: Run) -> None:
        processes = run.processes
        kill(processes)
        have_ended(processes, ENDS_WITHIN)

    def said(self, name: str) -> str:
        """The last line that a run has printed."""
        path = self.folder / f"{name}.txt"
        lines = path.read_text(errors="replace").split("\n") if path.exists() else []
        return next((line.strip() for line in reversed(lines) if line.strip()), "nothing")


def victims(run: Run, kind: str, place: float) -> Sequence[int]:
    """The processes to be killed. place: from 0 to 1, which of several it is."""
    if kind == ALL:
        return run.processes
    found = run.ranks if kind == RANK else run.launchers
    return [found[int(place * len(found))]] if found else []


def wait_for_lines(journal: Path, wanted: int, run: Run, seconds: float) -> bool:
    """Until a run has appended so many lines to its journal, or has ended; False where neither comes in time.

    Lines that a run drops as it begins, to do them again, are fewer and do not count.
    """
    before, deadline = lines_of(journal), time.monotonic() + seconds
    while wanted > 0 and run.status() is None:
        if time.monotonic() > deadline:
            return False
        now = lines_of(journal)
        wanted, before = wanted - max(0, now - before), now
        time.sleep(LOOK_SECONDS)
    return True


def lines_of(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0
