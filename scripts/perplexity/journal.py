"""The scores that a perplexity trial has so far, committed step by step so that a kill loses one step at most.

nll.npz is the commit point: it names the documents that its sums cover. Lines of samples.jsonl are written
before it, so after a kill there may be lines too many, never too few.
"""

import json
from typing import Any

import numpy as np

from scripts.perplexity.scorer import ScoredDocument
from utils.errors import UserError
from utils.trials.files import ARRAYS, SAMPLES
from utils.trials.nll_by_position import NllStatistics
from utils.trials.trial import Trial


class NllJournal:
    """The sums, samples, seconds and peak memory of a trial, on disk after every `commit`.

    Beside the arrays per position, nll.npz holds `state`, a JSON text: the indices of the documents covered,
    in the order they were added, the wall time of all steps in seconds, and the peak memory in bytes.
    """

    def __init__(self, trial: Trial) -> None:
        """Read what the trial holds, and drop lines of samples.jsonl that were never committed."""
        self.trial = trial
        arrays = trial.arrays()
        state = (
            json.loads(str(arrays["state"])) if arrays else {"documents": [], "seconds": 0.0, "peak_memory_bytes": 0}
        )
        self.statistics = NllStatistics(arrays)
        self.seconds: float = state["seconds"]
        self.peak_memory: int = state["peak_memory_bytes"]
        self.samples = self._committed_samples(state["documents"])

    @property
    def done(self) -> list[int]:
        """Indices of the documents that are scored."""
        return [sample["index"] for sample in self.samples]

    def commit(self, documents: list[ScoredDocument], seconds: float, peak_memory: int) -> None:
        """Add documents, in their order, and a step's wall time in seconds and peak memory in bytes."""
        self.trial.append_samples([document.sample for document in documents])
        for document in documents:
            self.statistics.add(document.nll)
            self.samples.append(document.sample)
        self.seconds += seconds
        self.peak_memory = max(self.peak_memory, peak_memory)
        state = {
            "documents": self.done,
            "seconds": self.seconds,
            "peak_memory_bytes": self.peak_memory,
        }
        self.trial.replace_arrays(self.statistics.arrays() | {"state": np.array(json.dumps(state))})

    def _committed_samples(self, documents: list[int]) -> list[dict[str, Any]]:
        lines = self.trial.samples()
        by_index = {sample["index"]: sample for sample in lines}
        missing = [index for index in documents if index not in by_index]
        if missing:
            raise UserError(
                f"{self.trial.folder / SAMPLES} lacks document {missing[0]}, which {ARRAYS} covers: start "
                "afresh with --overwrite"
            )
        samples = [by_index[index] for index in documents]
        self.trial.replace_samples(samples)
        return samples
