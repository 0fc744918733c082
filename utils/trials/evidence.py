"""The files that results.json was computed from: their digests, and what is damaged of them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.trials.files import (
    ARRAYS,
    LM_EVAL_RESULTS,
    RESULTS,
    SAMPLES,
    STREAM_ARRAYS,
    TASK_SAMPLES,
    TOKEN_NLLS,
)
from utils.trials.lines import damage_of, find_lines
from utils.trials.seals import ADVICE, COMPUTED_FROM, Seals, file_digest

EVIDENCE = (SAMPLES, ARRAYS, STREAM_ARRAYS, TOKEN_NLLS, TASK_SAMPLES, LM_EVAL_RESULTS)
"""Patterns of their names."""


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each such file that is there, by its name. Raises OSError."""
    return {path.name: file_digest(path) for pattern in EVIDENCE for path in sorted(folder.glob(pattern))}


def damages(folder: Path, results: Any, seals: Seals) -> dict[str, str]:
    """A sentence, without its end, for each damaged file by its name; results: what was read from results.json.

    All that results.json names are read, those too that no table or picture shows: its numbers were computed from them.
    """
    return dict(_damages(folder, results, seals))


def refuse_damage(folder: Path, results: Any, seals: Seals) -> None:
    """Raise UserError that names what is damaged."""
    found = damages(folder, results, seals)
    if found:
        raise UserError(f"{'; '.join(found.values())}: {ADVICE}")


def _damages(folder: Path, results: Any, seals: Seals) -> Iterator[tuple[str, str]]:
    if not isinstance(results, dict):
        yield RESULTS, f"{folder / RESULTS} holds no JSON object"
        return
    try:
        seals.check(results, folder / RESULTS)
    except UserError:
        yield RESULTS, f"{folder / RESULTS} is not as it was written"
        return
    computed_from = results.get(COMPUTED_FROM)
    for name, digest in computed_from.items() if isinstance(computed_from, Mapping) else ():
        damage = _damage(folder / name, digest, seals)
        if damage is not None:
            yield name, damage


def _damage(path: Path, digest: str, seals: Seals) -> str | None:
    try:
        if file_digest(path) == digest:
            return None
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    whole = f"{path} is not as {RESULTS} was computed from it"
    return (damage_of(path, find_lines(path, seals, finished=True)) or whole) if path.name == SAMPLES else whole
