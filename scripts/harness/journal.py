"""The texts that a trial has done so far: the lines of samples.jsonl, which resume reads."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from utils.trials.trial import Trial

Line = dict[str, Any]


class Journal:
    """The lines of samples.jsonl, in the order they were done; a text has one, or as many as its `parts` say.

    Every line has the `index` of its text, its share of its step's wall time (`seconds`) and the most memory any rank
    had used by then (`memory_bytes`). A kill loses one step at most.
    """

    def __init__(self, trial: Trial, file_of: Callable[[int], Path] | None = None) -> None:
        """Read what the trial holds, and drop the lines of texts that are not whole.

        file_of: the file that a text of this index must have besides, None where lines are all there is.
        """
        self.trial = trial
        lines = trial.samples()
        found = Counter(line["index"] for line in lines)
        self.lines = [line for line in lines if found[line["index"]] == line.get("parts", 1)]
        if file_of is not None:
            self.lines = [line for line in self.lines if file_of(line["index"]).exists()]
        trial.replace_samples(self.lines)

    @property
    def done(self) -> set[int]:
        """Indices of the texts that are done."""
        return {line["index"] for line in self.lines}

    def commit(self, lines: list[Line], seconds: float, memory: int) -> None:
        """Append the lines of a step that took `seconds`, with `memory` bytes at most."""
        lines = sorted(lines, key=lambda line: line["index"])
        share = {"seconds": round(seconds / max(len(lines), 1), 6), "memory_bytes": memory}
        lines = [line | share for line in lines]
        self.trial.append_samples(lines)
        self.lines += lines

    @property
    def seconds(self) -> float:
        """Wall time of all steps."""
        return sum(line["seconds"] for line in self.lines)

    @property
    def peak_memory(self) -> int:
        """Bytes."""
        return max((line["memory_bytes"] for line in self.lines), default=0)
