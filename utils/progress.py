"""One progress bar: how much is done, how fast, how long the rest takes; it moves inside a long text too."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn

from utils.console import Console

BAR_WIDTH = 24
TERMINAL_SECONDS = 0.2
PLAIN_SECONDS = 5.0
PLAIN_SHARE = 0.05  # plain lines come ever more rarely: one per 5 % of the time that has passed


class Amount:
    """So many of a known total: tokens, or examples. `done` of them were done by an earlier session."""

    def __init__(self, total: int, done: int, unit: str = "tokens", digits: int = 0) -> None:
        """digits: decimals of the speed."""
        self.total, self.done, self.unit, self.digits = total, done, unit, digits
        self.earlier = done
        self._step, self._share = 0, 0.0

    def begin_step(self, count: int, documents: int) -> None:
        self._step, self._share = count, 0.0

    def within_step(self, share: float) -> None:
        self._share = share

    def end_step(self, count: int, documents: int) -> None:
        self.done += count
        self._step, self._share = 0, 0.0

    @property
    def now(self) -> float:
        """How much is done, the share of the step that is going on included."""
        return self.done + self._share * self._step

    @property
    def is_complete(self) -> bool:
        return self.done >= self.total

    def expected(self) -> float | None:
        """How much there is in all, None where nothing is known of it yet."""
        return self.total

    def share(self) -> float:
        """How far the bar reaches, 0 to 1."""
        return self.now / max(self.total, 1)

    def describe(self) -> list[str]:
        return [f"{self.now:,.0f} of {self.total:,} {self.unit}"]


class DocumentTokens(Amount):
    """Tokens of so many documents, of which only those that were read are known.

    documents: in all; done_documents and done_tokens: what an earlier session did. longest: tokens that no document
    goes beyond, None where nothing bounds it.
    """

    def __init__(
        self, documents: int, done_documents: int = 0, done_tokens: int = 0, longest: int | None = None
    ) -> None:
        super().__init__(0, done_tokens)
        self.documents, self.done_documents, self.longest = documents, done_documents, longest
        self._step_documents = 0

    def begin_step(self, count: int, documents: int) -> None:
        super().begin_step(count, documents)
        self._step_documents = documents

    def end_step(self, count: int, documents: int) -> None:
        super().end_step(count, documents)
        self.done_documents += documents
        self._step_documents = 0

    @property
    def is_complete(self) -> bool:
        return self.done_documents >= self.documents

    def expected(self) -> float | None:
        """Tokens in all: documents not tokenized yet count as the mean of those that are, or as the bound."""
        known = self.done_documents + self._step_documents
        if not known:
            return self.documents * self.longest if self.longest else None
        tokens = self.done + self._step
        return tokens + max(self.documents - known, 0) * tokens / known

    def share(self) -> float:
        total = self.expected()
        return self.now / total if total else self.done_documents / max(self.documents, 1)

    def describe(self) -> list[str]:
        total = self.expected()
        return [
            f"{self.now:,.0f}" + (f" of about {total:,.0f}" if total else "") + " tokens",
            f"document {min(self.done_documents + 1, self.documents)} of {self.documents}",
        ]


class Progress:
    """Shows an amount of work as one line: often on a terminal, as ever rarer lines elsewhere.

    memory: returns the bytes to show. nll: what the running NLL is called, None where there is none.
    """

    def __init__(
        self,
        console: Console,
        amount: Amount,
        memory: Callable[[], int],
        nll: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console, self.amount, self.memory, self.clock = console, amount, memory, clock
        self.nll_name, self.nll = nll, None
        self._step_nll: float | None = None
        self._started, self._shown = clock(), float("-inf")

    def begin_step(self, count: int, documents: int = 0) -> None:
        """A step of so many tokens, of so many documents, begins."""
        self.amount.begin_step(count, documents)
        self.show()

    def within_step(self, share: float, nll: float | None = None) -> None:
        """So much of the step (0 to 1) is done. nll: the mean of its tokens so far, None if it is as it was."""
        self.amount.within_step(share)
        self._step_nll = self._step_nll if nll is None else nll
        self.show()

    def end_step(self, count: int, documents: int = 0, nll: float | None = None) -> None:
        """A step is done: how much it was, and the running NLL in nats."""
        self.amount.end_step(count, documents)
        self.nll, self._step_nll = nll, None
        self.show(force=self.amount.is_complete)

    def show(self, force: bool = False) -> None:
        """Show the line if it is time to, or in any case."""
        now = self.clock()
        plain = max(PLAIN_SECONDS, PLAIN_SHARE * (now - self._started))
        if force or now - self._shown >= (TERMINAL_SECONDS if self.console.interactive else plain):
            self._shown = now
            self.console.status(self.describe())

    def describe(self) -> str:
        """The line."""
        amount, total = self.amount, self.amount.expected()
        speed = (amount.now - amount.earlier) / max(self.clock() - self._started, 1e-9)
        parts = [bar(amount.share()), *amount.describe()]
        if self.nll_name is not None:
            nll = self._running_nll()
            parts.append("nll -" if nll is None else f"{self.nll_name} {nll:.4f}")
        parts.append(f"{speed:,.{amount.digits}f} {amount.unit}/s")
        parts.append(f"{self.memory() / 2**30:.2f} GiB")
        if total and speed > 0:
            parts.append(f"{clock_time((total - amount.now) / speed)} left")
        return " | ".join(parts)

    def _running_nll(self) -> float | None:
        """The mean of all tokens up to now; those of the step count as far as their mean is known."""
        if self.nll is None or self._step_nll is None:
            return self._step_nll if self.nll is None else self.nll
        share = self.amount.done / max(self.amount.now, 1)
        return share * self.nll + (1 - share) * self._step_nll


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
