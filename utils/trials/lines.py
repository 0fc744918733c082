"""The lines of samples.jsonl as they are found: whole, or with what is wrong of each."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.trials.reading import is_of
from utils.trials.seals import ADVICE, CHECKSUM, Seals

MOST_NAMED = 3
Json = dict[str, Any]


@dataclass(frozen=True)
class FoundLine:
    """number: in the file, from 1. value: without its checksum, None where it cannot be trusted.

    place: the number that it was written for, None where it has no checksum. fault: what is wrong, None if nothing is.
    """

    number: int
    value: Json | None
    place: int | None = None
    fault: str | None = None


def find_lines(path: Path, seals: Seals, finished: bool = False) -> list[FoundLine]:
    """All lines of a file, none where there is none; half a line at its end, which a kill leaves, is passed over.

    finished: whether nobody was killed, so that half a line is damage. Raises UserError where it cannot be read.
    """
    try:
        content = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): mend that, or start afresh with --overwrite"
        ) from None
    *whole, rest = content.split(b"\n")
    found = [_examine(line, number, seals) for number, line in enumerate(whole, start=1)]
    last = _examine(rest, len(found) + 1, seals)
    return [*found, last] if last.fault is None or (finished and rest) else found


def sound_values(found: Sequence[FoundLine]) -> list[Json]:
    """The lines that can be trusted, in the order they were written; one that stands there twice counts once."""
    kept: list[Json] = []
    newest = 0
    for line in found:
        if line.value is not None and (line.place is None or line.place > newest):
            kept.append(line.value)
            newest = line.place or newest
    return kept


def damage_of(path: Path, found: Sequence[FoundLine]) -> str | None:
    """The damaged lines in words, by number; None where all are whole."""
    damaged = [line for line in found if line.fault is not None]
    if not damaged:
        return None
    named = ", ".join(f"line {line.number} {line.fault}" for line in damaged[:MOST_NAMED])
    more = len(damaged) - MOST_NAMED
    return f"{path} {named}" + (f" and {more} more" if more > 0 else "")


def read_whole(path: Path, seals: Seals) -> list[Json]:
    """The lines of a file of which none is damaged. Raises UserError that names those that are."""
    found = find_lines(path, seals)
    damage = damage_of(path, found)
    if damage is not None:
        raise UserError(f"{damage}: {ADVICE}")
    return sound_values(found)


def _examine(line: bytes, number: int, seals: Seals) -> FoundLine:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return FoundLine(number, None, fault="is no JSON object")
    if not isinstance(value, dict) or not is_of(value.get("index"), int):
        return FoundLine(number, None, fault="is no JSON object with an index")
    place, fault = seals.open_line(line)
    if fault is not None:
        return FoundLine(number, None, fault=fault)
    value.pop(CHECKSUM, None)
    if place not in (None, number):
        fault = f"was written as line {place}"
    return FoundLine(number, value, place, fault)
