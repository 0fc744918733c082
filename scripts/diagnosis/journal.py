"""Which documents of a diagnosis are measured: those with a line in samples.jsonl and a file of arrays."""

from typing import Any

from scripts.diagnosis.documents import DocumentFiles
from utils.trials.trial import Trial

Line = dict[str, Any]


class DiagnosisJournal:
    """The lines of samples.jsonl. A line is appended once its document's file is written: a kill loses a step at most.

    Every line has its share of its step's wall time (`seconds`) and the most memory any rank had used by then
    (`memory_bytes`).
    """

    def __init__(self, trial: Trial) -> None:
        """Read what the trial holds, and drop lines whose file is not there."""
        self.trial = trial
        self.files = DocumentFiles(trial.folder)
        self.lines = [line for line in trial.samples() if self.files.path(line["index"]).exists()]
        trial.replace_samples(self.lines)

    @property
    def done(self) -> list[int]:
        """Indices of the documents that are measured."""
        return [line["index"] for line in self.lines]

    def commit(self, lines: list[Line], seconds: float, memory: int) -> None:
        """Append the lines of a step that took `seconds`, with `memory` bytes at most."""
        share = {"seconds": round(seconds / max(len(lines), 1), 6), "memory_bytes": memory}
        lines = [line | share for line in sorted(lines, key=lambda line: line["index"])]
        self.trial.append_samples(lines)
        self.lines += lines

    @property
    def tokens(self) -> int:
        """Of all documents that are measured."""
        return sum(line["tokens"] for line in self.lines)

    @property
    def seconds(self) -> float:
        """Wall time of all steps."""
        return sum(line["seconds"] for line in self.lines)

    @property
    def peak_memory(self) -> int:
        """Bytes."""
        return max((line["memory_bytes"] for line in self.lines), default=0)
