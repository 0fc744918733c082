"""One progress bar in tokens over a stream, or several that run side by side."""

import time
from collections.abc import Callable

from utils.console import Console
from utils.progress import StatusBar, bar, clock_time


class StreamProgress(StatusBar):
    """Counts tokens of all streams together. `total` are to be read in all, `done` were read by an earlier session;
    `memory` returns bytes.
    """

    def __init__(
        self,
        console: Console,
        total: int,
        done: int,
        memory: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(console, clock)
        self.total, self.done, self.memory = total, done, memory
        self.nll: float | None = None
        self._earlier = done
        self._chunk, self._share = 0, 0.0

    def begin_chunk(self, tokens: int) -> None:
        """A chunk of so many tokens, of all streams together, begins."""
        self._chunk, self._share = tokens, 0.0
        self.show()

    def within_chunk(self, share: float) -> None:
        """So much of the chunk (0 to 1) is done."""
        self._share = share
        self.show()

    def end_chunk(self, nll: float | None) -> None:
        """The chunk is done; `nll`: mean of the newest million tokens."""
        self.done += self._chunk
        self.nll = nll
        self._chunk, self._share = 0, 0.0
        self.show(force=self.done >= self.total)

    def describe(self) -> str:
        tokens = self.done + self._share * self._chunk
        speed = self.speed(tokens - self._earlier)
        parts = [
            bar(tokens / self.total),
            f"{tokens:,.0f} of {self.total:,} tokens",
            f"nll of the last million {self.nll:.4f}" if self.nll is not None else "nll -",
            f"{speed:,.0f} tokens/s",
            f"{self.memory() / 2**30:.2f} GiB",
        ]
        if speed > 0:
            parts.append(f"{clock_time((self.total - tokens) / speed)} left")
        return " | ".join(parts)
