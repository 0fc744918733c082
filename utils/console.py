"""Lines that the user sees, mirrored into a log file, and one status line that is overwritten."""

import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from utils.errors import GOES_ON, Stopped, UserError
from utils.files import refuse_removed

CLEAR_LINE = "\r\x1b[2K"


class Console:
    """Lines go to stdout and the log file; the status to stderr. A silent one (rank > 0) shows nothing."""

    def __init__(self, silent: bool = False) -> None:
        self.silent = silent
        self.interactive = sys.stderr.isatty()
        self._log: Path | None = None
        self._backlog: list[str] = []
        self._status_shown = False

    def log_to(self, path: Path) -> None:
        """Mirror every line into `path` from now on, those already said included."""
        self._log = path
        for line in self._backlog:
            self._mirror(line)
        self._backlog.clear()

    def say(self, text: str = "") -> None:
        """Show and log one or more lines."""
        if self.silent:
            return
        self.clear_status()
        print(text, flush=True)
        self._mirror(text)

    def log(self, text: str) -> None:
        """Have lines in the log file alone."""
        if not self.silent:
            self._mirror(text)

    def status(self, text: str) -> None:
        """Replace the status line on a terminal; elsewhere write a plain, logged line."""
        if self.silent:
            return
        if self.interactive:
            width = shutil.get_terminal_size().columns - 1  # a line that wraps could not be overwritten
            print(f"{CLEAR_LINE}{text[:width]}", end="", file=sys.stderr, flush=True)
            self._status_shown = True
        else:
            print(text, file=sys.stderr, flush=True)
            self._mirror(text)

    def clear_status(self) -> None:
        """Take the status line off the terminal."""
        if self._status_shown:
            print(CLEAR_LINE, end="", file=sys.stderr, flush=True)
            self._status_shown = False

    def fail(self, sentence: str) -> None:
        """Show and log why the process is about to end, as far as the log can be written; any thread may call it."""
        self.clear_status()
        print(f"error: {sentence}", file=sys.stderr, flush=True)
        self._log_error(sentence)

    @contextmanager
    def logging_errors(self) -> Iterator[None]:
        """Mirror what ends the block into the log file, a signal too, as far as that can be written."""
        try:
            yield
        except KeyboardInterrupt:
            self._log_error(f"interrupted; {GOES_ON}")
            raise
        except Stopped as stop:
            self._log_error(f"ended by {signal.Signals(stop.number).name}; {GOES_ON}")
            raise
        except UserError as error:
            self._log_error(str(error))
            raise

    def _log_error(self, sentence: str) -> None:
        if self._log is not None:
            with suppress(UserError):
                self._mirror(f"error: {sentence}")

    def _mirror(self, text: str) -> None:
        if self._log is None:
            self._backlog.append(text)
            return
        try:
            with open(self._log, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text + "\n")
        except OSError as error:
            refuse_removed(self._log.parent)
            raise UserError(
                f"{self._log} cannot be written ({error.strerror or error}): what is there is kept, so mend "
                "that and give the same command again"
            ) from None
