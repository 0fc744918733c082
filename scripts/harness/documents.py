"""Work on single texts: documents or examples, in steps that all ranks take together; a journal says which are done."""

from collections.abc import Generator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from scripts.harness.experiment import Work
from scripts.harness.journal import Journal
from scripts.harness.model import RunnableModel
from utils.progress import Amount, Progress
from utils.ranks.runtime import Runtime, peak_memory
from utils.ranks.steps import steps
from utils.text_tables import counted
from utils.trials.trial import Trial

Pieces = Generator[list[int], None, None]


class Texts(Protocol):
    """Texts by their place. Reading one costs nothing for the others, and may raise UserError."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int) -> Any: ...


class DocumentWork(Work):
    """Texts one by one. A piece is a list of places, at most `batch_size` of them, perhaps none.

    name: of the corpus or task. first: the index of its text at place 0. kind: what one text is called.
    """

    def __init__(
        self,
        runtime: Runtime,
        model: RunnableModel,
        texts: Texts,
        name: str,
        first: int,
        batch_size: int,
        kind: str = "document",
    ) -> None:
        super().__init__(runtime, model, name, len(texts), f", {counted(len(texts), kind)} of {name}")
        self.texts, self._first, self.batch_size = texts, first, batch_size

    def read_journal(self, trial: Trial) -> Any:
        """On the first rank: the record of what the trial has done; it has the indices of the texts that are `done`."""
        return Journal(trial)

    def resume(self, trial: Trial | None, log_dir: Path) -> None:
        """Have the journal on the first rank, and know on every one what is done."""
        self.journal, done = None, None
        with self.runtime.together():
            if self.runtime.is_main:
                self.journal = self.read_journal(trial)
                done = sorted(self.journal.done)
        self.done = set(self.runtime.broadcast(done))

    def pieces(self) -> Pieces:
        left = [place for place in range(len(self.texts)) if self._first + place not in self.done]
        for step in self.steps(left):
            yield step[self.runtime.reader]

    def steps(self, places: Sequence[int]) -> Iterator[list[list[int]]]:
        """The pieces of every reader, step by step; the same on each rank."""
        return steps(places, self.runtime.readers, self.batch_size)

    def read(self, places: Sequence[int]) -> list[Any]:
        """The texts at these places. Raises UserError where one cannot be read: call it within `together`."""
        return [self.texts[place] for place in places]

    def show_progress(self, amount: Amount, nll: str | None = None) -> Progress:
        """A bar for this work. nll: what a running NLL is called on it."""
        return Progress(self.runtime.console, amount, partial(peak_memory, self.runtime.device), nll)

    def peak_memory(self) -> int:
        """Bytes that this rank has used at most."""
        return peak_memory(self.runtime.device)
