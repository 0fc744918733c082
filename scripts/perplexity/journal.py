"""The scores that a perplexity trial has so far, committed step by step so that a kill loses one step at most.

The NLL of each document is appended to a file, and then its line to samples.jsonl, which makes it count. At the end
`fold` writes all sums as nll.npz, once.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scripts.perplexity.nll_file import DIGEST, DocumentNllFile
from scripts.perplexity.scorer import ScoredDocument
from utils.errors import UserError
from utils.trials.files import ARRAYS, SAMPLES
from utils.trials.nll_by_position import NllStatistics
from utils.trials.seals import ADVICE
from utils.trials.trial import Trial

Json = dict[str, Any]
SECONDS, MEMORY = "step_seconds", "memory_bytes"
"""Fields of a line: its share of its step's wall time, and the most bytes that any rank had used by then."""


@dataclass(frozen=True)
class Folded:
    """What nll.npz holds: sums, and of which documents, in the order they were added; `state` has it as JSON text."""

    arrays: dict[str, np.ndarray]
    documents: list[int]
    seconds: float
    peak_memory: int


NOTHING = Folded({}, [], 0.0, 0)


class NllJournal:
    """The sums, samples, seconds and peak memory of a trial, on disk after every `commit`."""

    def __init__(self, trial: Trial) -> None:
        """Read what the trial holds, and drop what was never committed. Raises UserError where it is damaged."""
        self.trial, self.file = trial, DocumentNllFile(trial.folder)
        lines = trial.samples()
        folded, own = self._sources(lines)
        self.statistics = NllStatistics(folded.arrays or None)
        self.seconds, self.peak_memory = folded.seconds, folded.peak_memory
        by_index = {line["index"]: line for line in lines}
        self.samples = [by_index[index] for index in folded.documents]
        kept = [line for line in own if self._add_kept(line)]
        self.file.cut(kept)
        trial.replace_samples(self.samples)

    @property
    def done(self) -> list[int]:
        """Indices of the documents that are scored."""
        return [sample["index"] for sample in self.samples]

    def commit(self, documents: list[ScoredDocument], seconds: float, peak_memory: int) -> None:
        """Add documents, in their order, and a step's wall time in seconds and peak memory in bytes."""
        share = {SECONDS: seconds / max(len(documents), 1), MEMORY: peak_memory}
        places = self.file.append([document.nll for document in documents])
        lines = [document.sample | share | place for document, place in zip(documents, places)]
        self.trial.append_samples(lines)
        for document, line in zip(documents, lines):
            self._add(line, document.nll)

    def fold(self) -> None:
        """Write nll.npz: the arrays per position, and the state as `Folded` has it."""
        state = {"documents": self.done, "seconds": self.seconds, "peak_memory_bytes": self.peak_memory}
        state["trial"] = self.trial.seals.key
        self.trial.replace_arrays(self.statistics.arrays() | {"state": np.array(json.dumps(state))})

    def _add(self, line: Json, nll: np.ndarray) -> None:
        self.statistics.add(nll)
        self.samples.append(line)
        self.seconds += line[SECONDS]
        self.peak_memory = max(self.peak_memory, line[MEMORY])

    def _add_kept(self, line: Json) -> bool:
        """Add a document of an earlier run; False where its NLL is damaged, and it is to be scored again."""
        nll = self.file.read(line)
        if nll is None:
            self._damaged(f"{self.file.path} is not as it was written at document {line['index']}")
            return False
        self._add(line, nll)
        return True

    def _sources(self, lines: Sequence[Json]) -> tuple[Folded, list[Json]]:
        """What is taken from nll.npz, and the lines of documents whose NLL is taken from the file beside it.

        nll.npz is that of a fold, or of a version that wrote it at each step.
        """
        folded = self._folded()
        own = [line for line in lines if DIGEST in line] if self.file.path.exists() else []
        indices = {line["index"] for line in lines}
        if folded.documents and set(folded.documents) == indices:
            return folded, []
        if len(own) == len(lines):
            return NOTHING, own
        missing = sorted(set(folded.documents) - (indices - {line["index"] for line in own}))
        if missing:
            self._damaged(f"{self.trial.folder / SAMPLES} lacks document {missing[0]}, which {ARRAYS} covers")
            return NOTHING, own
        lost = [line["index"] for line in lines if DIGEST in line] if not own else []
        lost = [index for index in lost if index not in folded.documents]
        if lost:
            self._damaged(f"{self.file.path} is not there, which holds the NLL of document {lost[0]}")
        return folded, own

    def _folded(self) -> Folded:
        path = self.trial.folder / ARRAYS
        try:
            arrays = self.trial.arrays()
        except UserError as error:
            if not self.trial.repair:
                raise
            self.trial.console.say(f"{error}: dropped, to be computed again")
            return NOTHING
        if arrays is None:
            return NOTHING
        try:
            state = json.loads(str(arrays["state"]))
            ours = state.get("trial") in (None, self.trial.seals.key)
            found = Folded(arrays, list(map(int, state["documents"])), state["seconds"], state["peak_memory_bytes"])
            NllStatistics(arrays)
        except (KeyError, TypeError, ValueError, AttributeError):
            self._damaged(f"{path} holds no sums and state of a trial")
            return NOTHING
        if not ours:
            self._damaged(f"{path} is another trial's")
            return NOTHING
        return found

    def _damaged(self, sentence: str) -> None:
        """Raise UserError, or say it where it is to be repaired."""
        if not self.trial.repair:
            raise UserError(f"{sentence}: {ADVICE}")
        self.trial.console.say(f"{sentence}: dropped, to be computed again")
