"""One progress bar in tokens, with the running NLL, speed and memory; it moves inside a long document too."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn

from utils.console import Console

BAR_WIDTH = 24
TERMINAL_SECONDS = 0.2
PLAIN_SECONDS = 5.0
PLAIN_SHARE = 0.05  # plain lines come ever more rarely: one per 5 % of the time that has passed


class StatusBar:
    """Shows `describe()` now and then: often on a terminal, as ever rarer lines elsewhere."""

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        self.console, self.clock = console, clock
        self._started, self._shown = clock(), float("-inf")

    def describe(self) -> str:
        """The status line."""
        raise NotImplementedError

    def show(self, force: bool = False) -> None:
        """Show it if it is time to, or in any case."""
        now = self.clock()
        plain = max(PLAIN_SECONDS, PLAIN_SHARE * (now - self._started))
        if force or now - self._shown >= (TERMINAL_SECONDS if self.console.interactive else plain):
            self._shown = now
            self.console.status(self.describe())

    def speed(self, tokens: float) -> float:
        """Tokens per second, where so many were done since the beginning."""
        return tokens / max(self.clock() - self._started, 1e-9)


class Progress(StatusBar):
    """Counts tokens and documents of this session and shows them.

    `documents` is how many are to be done in all, `done_documents` and `done_tokens` what an earlier session
    did; `longest` (tokens) bounds a document's length, None where nothing does; `memory` returns bytes.
    """

    def __init__(
        self,
        console: Console,
        documents: int,
        done_documents: int = 0,
        done_tokens: int = 0,
        longest: int | None = None,
        memory: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(console, clock)
        self.documents, self.longest, self.memory = documents, longest, memory
        self.done_documents, self.done_tokens = done_documents, done_tokens
        self.nll: float | None = None
        self._earlier_tokens = done_tokens
        self._step_tokens, self._step_documents, self._step_share = 0, 0, 0.0

    def begin_step(self, tokens: int, documents: int) -> None:
        """A step that will score so many tokens of so many documents begins."""
        self._step_tokens, self._step_documents, self._step_share = tokens, documents, 0.0
        self.show()

    def within_step(self, share: float) -> None:
        """So much of the step (0 to 1) is done."""
        self._step_share = share
        self.show()

    def end_step(self, tokens: int, documents: int, nll: float | None) -> None:
        """A step is done: what it scored, and the mean NLL so far in nats."""
        self.done_tokens += tokens
        self.done_documents += documents
        self.nll = nll
        self._step_tokens, self._step_documents, self._step_share = 0, 0, 0.0
        self.show(force=self.done_documents >= self.documents)

    def describe(self) -> str:
        """The status line."""
        tokens = self.done_tokens + self._step_share * self._step_tokens
        speed = self.speed(tokens - self._earlier_tokens)
        total = self._expected_tokens()
        parts = [
            bar(tokens / total if total else self.done_documents / max(self.documents, 1)),
            f"{tokens:,.0f}" + (f" of about {total:,.0f}" if total else "") + " tokens",
            f"document {min(self.done_documents + 1, self.documents)} of {self.documents}",
            f"nll {self.nll:.4f}" if self.nll is not None else "nll -",
            f"{speed:,.0f} tokens/s",
            f"{self.memory() / 2**30:.2f} GiB",
        ]
        if total and speed > 0:
            parts.append(f"{clock_time((total - tokens) / speed)} left")
        return " | ".join(parts)

    def _expected_tokens(self) -> float | None:
        """Tokens in all: documents not tokenized yet count as the mean of those that are, or as the bound."""
        known = self.done_documents + self._step_documents
        if not known:
            return self.documents * self.longest if self.longest else None
        tokens = self.done_tokens + self._step_tokens
        return tokens + max(self.documents - known, 0) * tokens / known


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


class DiagnosisProgress(Progress):
    """`Progress` without the NLL."""

    def describe(self) -> str:
        return " | ".join(part for part in super().describe().split(" | ") if not part.startswith("nll"))


@contextmanager
def layer_progress(model: nn.Module, report: Callable[[float], None]) -> Iterator[None]:
    """Call `report(share)` after each layer of `model` during a forward; the layers are its longest
    ModuleList."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    layers = max(lists, key=len, default=[])
    shares = [(place + 1) / len(layers) for place in range(len(layers))]
    handles = [
        layer.register_forward_hook(lambda *_, share=share: report(share)) for layer, share in zip(layers, shares)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def bar(share: float) -> str:
    filled = min(max(round(share * BAR_WIDTH), 0), BAR_WIDTH)
    return f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}] {min(share, 1.0):4.0%}"


def clock_time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
