"""Signals by which schedulers end a job: noted while a piece of work is done, so that ranks save and leave together.

Where nothing is to be saved the process ends at once. A rank whose launcher is gone sends itself SIGTERM.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.errors import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
LAUNCHER_VARIABLES = ("TORCHELASTIC_RUN_ID", "CROSS_SIZE")
"""Set by torchrun and by deepspeed, whose ranks do not outlive it."""
LOOK_SECONDS = 2.0
COMMAND_SECONDS = 3.0


class Stopping:
    """Which signal this process has received. `listen` and the handler run in the main thread."""

    def __init__(self) -> None:
        self.received = 0
        self._deferred = False

    def listen(self) -> None:
        """Take the signals, but for those that are ignored already (nohup), and watch the launcher if there is one."""
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._note)
        if any(name in os.environ for name in LAUNCHER_VARIABLES):
            threading.Thread(target=_watch, args=(ancestors(),), daemon=True).start()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """A block in which a signal is only noted, for whoever looks at `received`."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def release(self) -> None:
        """Have the signals end the process at once again: it is about to leave."""
        for number in SIGNALS:
            if signal.getsignal(number) == self._note:
                signal.signal(number, signal.SIG_DFL)

    def outlive_command(self) -> None:
        """Wait, a few seconds at most, until deepspeed's command has ended on Ctrl-C: its traceback hides the rest.

        Its launcher, which ends the ranks meanwhile, is not heard.
        """
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        launcher, *command = ancestors()
        end = time.monotonic() + COMMAND_SECONDS
        while command and _parent_of(launcher) == command[0] and time.monotonic() < end:
            time.sleep(0.05)

    def _note(self, number: int, _: object) -> None:
        """The first one counts: launchers repeat what a scheduler has sent to all."""
        first, self.received = not self.received, self.received or number
        if first and not self._deferred:
            raise Stopped(number)


stopping = Stopping()


def ancestors() -> list[int]:
    """The launcher's processes above this one: its parent, and that one's where it is deepspeed's command."""
    parent = os.getppid()
    above = _parent_of(parent)
    return [parent, above] if above and "deepspeed" in _command(above) else [parent]


def _watch(launchers: list[int]) -> None:
    while True:
        time.sleep(LOOK_SECONDS)
        alive = [os.getppid(), *([_parent_of(launchers[0])] if len(launchers) > 1 else [])]
        if alive != launchers:
            os.kill(os.getpid(), signal.SIGTERM)
            return


def _parent_of(process: int) -> int | None:
    """None where the system does not tell."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("PPid:")), None)


def _command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
