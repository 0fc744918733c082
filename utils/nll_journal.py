"""What a perplexity trial has scored so far, committed step by step so that a kill loses one step at most.

nll.npz is the commit point: it names the documents that its sums cover. Lines of samples.jsonl are written before it,
so after a kill there may be lines too many, never too few.
"""

from typing import Any

import numpy as np

from utils.document_scoring import ScoredDocument
from utils.errors import UserError
from utils.nll_statistics import NllStatistics
from utils.results import ARRAYS, SAMPLES, Trial


class NllJournal:
    """The sums, samples, seconds and peak memory of a trial, on disk after every `commit`."""

    def __init__(self, trial: Trial) -> None:
        """Read what the trial holds, and drop lines of samples.jsonl that were never committed."""
        self.trial = trial
        arrays = trial.arrays()
        self.statistics = NllStatistics(arrays)
        self.seconds = float(arrays["seconds"]) if arrays else 0.0
        self.peak_memory = int(arrays["peak_memory_bytes"]) if arrays else 0
        self.samples = self._committed_samples(arrays["documents"].tolist() if arrays else [])

    def commit(self, documents: list[ScoredDocument], seconds: float, peak_memory: int) -> None:
        """Add documents, in their order, and a step's wall time in seconds and peak memory in bytes."""
        self.trial.append_samples([document.sample for document in documents])
        for document in documents:
            self.statistics.add(document.nll)
            self.samples.append(document.sample)
        self.seconds += seconds
        self.peak_memory = max(self.peak_memory, peak_memory)
        self.trial.replace_arrays(
            {
                **self.statistics.arrays(),
                "documents": np.array([sample["index"] for sample in self.samples], dtype=np.int64),
                "seconds": np.float64(self.seconds),
                "peak_memory_bytes": np.int64(self.peak_memory),
            }
        )

    def _committed_samples(self, documents: list[int]) -> list[dict[str, Any]]:
        lines = self.trial.samples()
        by_index = {sample["index"]: sample for sample in lines}
        missing = [index for index in documents if index not in by_index]
        if missing:
            raise UserError(
                f"{self.trial.folder / SAMPLES} lacks document {missing[0]}, which {ARRAYS} covers: start afresh with "
                "--overwrite"
            )
        samples = [by_index[index] for index in documents]
        self.trial.replace_samples(samples)
        return samples
