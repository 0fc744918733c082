"""The lines of samples.jsonl of a finished trial, read and checked by the record of its experiment."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.trials.experiments import Lines
from utils.trials.files import CONFIG, RESULTS
from utils.trials.lines import find_lines
from utils.trials.reading import DAMAGED, TYPE_WORDS, is_of
from utils.trials.seals import Seals

Sample = dict[str, Any]


def read_samples(
    path: Path, lines: Lines, indices: range, results: Mapping[str, Any], seals: Seals | None = None
) -> list[Sample]:
    """The lines in the order of their index, and position if any; UserError names the one that is not as it must be.

    indices: of the documents that the trial selected. results: from results.json. seals: the checksums of the trial.
    """
    samples = sorted(_parse(path, lines, seals or Seals()), key=_place)
    _check_places(samples, indices, path)
    counted = len(samples) if lines.counted_as is None else results.get(lines.counted_as)
    if counted != len(samples):
        raise UserError(f"{path} has {len(samples)} lines where {RESULTS} counts {counted}: {DAMAGED}")
    _check_together(samples, path)
    return samples


def _parse(path: Path, lines: Lines, seals: Seals) -> Iterator[Sample]:
    if not path.is_file():
        raise UserError(f"{path} cannot be read (No such file or directory): {DAMAGED}")
    found = find_lines(path, seals, finished=True)
    for line in found:
        if line.fault is not None:
            raise UserError(f"{path} line {line.number} {line.fault}: {DAMAGED}")
        _check_sample(line.value, lines, f"{path} line {line.number}")
        yield line.value


def _check_sample(sample: Any, lines: Lines, where: str) -> None:
    fields = lines.always if sample.get("error") is not None else {**lines.always, **lines.finished}
    for name, kind in fields.items():
        if name not in sample:
            raise UserError(f"{where} lacks {name!r}, which must be {TYPE_WORDS[kind]}: {DAMAGED}")
        if not is_of(sample[name], kind):
            shown = json.dumps(sample[name])
            raise UserError(f"{where} has {name!r} {shown}, which must be {TYPE_WORDS[kind]}: {DAMAGED}")
    outcome = lines.outcome
    if outcome and (sample[outcome] is None) != (sample["error"] is not None):
        raise UserError(f"{where} must have either {outcome!r} or 'error', the other one null: {DAMAGED}")
    if "score" in fields and not 0 <= (sample["score"] or 0) <= 1:
        raise UserError(f"{where} has 'score' {sample['score']}, which must be from 0 to 1: {DAMAGED}")


def _check_places(samples: Sequence[Sample], indices: range, path: Path) -> None:
    places = set()
    for sample in samples:
        if sample["index"] not in indices:
            raise UserError(f"{path} has document {sample['index']}, which {CONFIG} does not select: {DAMAGED}")
        if _place(sample) in places:
            raise UserError(f"{path} has document {sample['index']} twice: {DAMAGED}")
        places.add(_place(sample))


def _check_together(samples: Sequence[Sample], path: Path) -> None:
    """Refuse lines that are not all of a trial, or of several."""
    lines = Counter(sample["index"] for sample in samples)
    for sample in samples:
        if lines[sample["index"]] != sample.get("parts", 1):
            raise UserError(f"{path} lacks lines of document {sample['index']}: {DAMAGED}")
    if not samples:
        raise UserError(f"{path} holds no example: there is nothing to show of this trial")
    tasks = sorted({sample.get("task", "") for sample in samples})
    if len(tasks) > 1:
        raise UserError(f"{path} holds examples of {' and '.join(tasks)}: a trial is of one task")


def _place(sample: Sample) -> tuple[int, int]:
    return sample["index"], sample.get("position", 0)
