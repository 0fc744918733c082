"""One progress bar over examples."""

import time
from collections.abc import Callable

from utils.console import Console
from utils.progress import StatusBar, bar, clock_time


class ExampleProgress(StatusBar):
    """Counts examples: `total` in all, of which an earlier session did `done`. `memory` returns bytes."""

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
        self._earlier = done

    def advance(self, examples: int) -> None:
        """So many more are done."""
        self.done += examples
        self.show(force=self.done >= self.total)

    def describe(self) -> str:
        speed = self.speed(self.done - self._earlier)
        parts = [
            bar(self.done / max(self.total, 1)),
            f"{self.done} of {self.total} examples",
            f"{speed:.2f} examples/s",
            f"{self.memory() / 2**30:.2f} GiB",
        ]
        if speed > 0:
            parts.append(f"{clock_time((self.total - self.done) / speed)} left")
        return " | ".join(parts)
