"""The texts that a trial has done so far: the lines of samples.jsonl, which resume reads."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.trials.files import SAMPLES
from utils.trials.reading import NUMBER, is_of
from utils.trials.seals import ADVICE, file_digest
from utils.trials.trial import Trial

Line = dict[str, Any]
DIGEST = "arrays_sha256"
"""Field of a line whose text has a file besides: the SHA-256 of it."""


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
        lines = [line for line in trial.samples() if self._has_its_numbers(line)]
        found = Counter(line["index"] for line in lines)
        self.lines = [line for line in lines if found[line["index"]] == line.get("parts", 1)]
        if file_of is not None:
            self.lines = [line for line in self.lines if self._has_its_file(line, file_of(line["index"]))]
        trial.replace_samples(self.lines)

    def _has_its_numbers(self, line: Line) -> bool:
        """False where a line, of a version without checksums, is none of a trial; then raises UserError, or says it."""
        numbers = is_of(line.get("seconds"), NUMBER) and is_of(line.get("memory_bytes"), int | None)
        return numbers or self._damaged(f"{self.trial.folder / SAMPLES} has a line without seconds and memory_bytes")

    def _has_its_file(self, line: Line, path: Path) -> bool:
        """False where there is none; where it is damaged, raises UserError, or says it and returns False."""
        if not path.exists():
            return False
        whole = DIGEST not in line or file_digest(path) == line[DIGEST]
        return whole or self._damaged(f"{path} is not as it was written")

    def _damaged(self, sentence: str) -> bool:
        if not self.trial.repair:
            raise UserError(f"{sentence}: {ADVICE}")
        self.trial.console.say(f"{sentence}: dropped, to be computed again")
        return False

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
