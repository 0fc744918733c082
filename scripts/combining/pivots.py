"""Methods x lengths: the records of a table as one row for each method, and a column for each length."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from scripts.combining.tables import BLOCK, SUFFIXES, Record
from utils.errors import UserError

FAILED = "failed"
"""What a record has of how many examples have no score."""


@dataclass(frozen=True)
class Placed:
    """A record of trial, method, model, task, metric and score. length: the tokens that were asked for."""

    record: Record
    length: int | None


def pivot(rows: Sequence[Placed]) -> list[Record]:
    """One record for each method of a model, task and metric; a length that it was not run at is None in it.

    Methods have one order in the whole table, that in which they come up. A length at which something failed has a
    second column of how many that are, for they are in no score.

    Raises UserError where two trials have one place, or one has no length.
    """
    lengths = sorted({_length(row) for row in rows})
    found: dict[tuple[str, ...], dict[int, Record]] = {}
    for row in rows:
        named = tuple(row.record[name] for name in (*BLOCK, "method"))
        place = found.setdefault(named, {})
        if row.length in place:
            raise UserError(
                f"--pivot: {place[row.length]['trial']} and {row.record['trial']} are both {named[-1]} at "
                f"{row.length:,} tokens of {named[1]}: leave one of them out"
            )
        place[row.length] = row.record
    kinds, methods = (list(dict.fromkeys(part)) for part in zip(*((named[:-1], named[-1]) for named in found)))
    ordered = sorted(found, key=lambda named: (kinds.index(named[:-1]), methods.index(named[-1])))
    failing = {row.length for row in rows if row.record[FAILED]}
    return [_row(named, found[named], lengths, failing) for named in ordered]


def _length(row: Placed) -> int:
    if row.length is None:
        raise UserError(f"--pivot: {row.record['trial']} has no length, give trials that were run with one")
    return row.length


def _row(
    named: tuple[str, ...], place: dict[int, Record], lengths: Sequence[int], failing: Collection[int | None]
) -> Record:
    row: Record = dict(zip((*BLOCK, "method"), named))
    for length in lengths:
        cell = place.get(length, {})
        row |= {f"{length:,}{suffix}": cell.get(f"score{suffix}") for suffix in ("", *SUFFIXES)}
        if length in failing:
            row[f"{length:,} {FAILED}"] = cell.get(FAILED)
    return row
