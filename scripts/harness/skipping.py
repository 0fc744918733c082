"""Documents without a text to work on: passed over, said and counted, or with --strict_data the end of the run."""

from collections.abc import Sequence
from typing import Any

from data.document import AnyDocument
from utils.console import Console
from utils.errors import UserError
from utils.text_tables import counted

SKIPPED = "skipped"
Skip = dict[str, Any]
"""`index` and `id` of a document, and the `reason`: what it is or has, as the rest of a sentence."""


def skip_of(document: AnyDocument, tokens: int | None = None, shortest: int = 0) -> Skip | None:
    """Why a document of so many tokens is passed over where fewer than `shortest` will not do; None where it is not."""
    if not any(piece.strip() for piece in document.pieces()):
        reason = "is blank" if any(document.pieces()) else "is empty"
    elif tokens is not None and tokens < shortest:
        reason = f"has {counted(tokens, 'token')}, and at least {shortest} are needed"
    else:
        return None
    return {"index": document.index, "id": document.id, "reason": reason}


class Skips:
    """The documents that a run has passed over so far. One that goes on finds those of earlier sessions anew."""

    def __init__(self, console: Console, strict: bool) -> None:
        """strict: whether the first such document ends the run."""
        self._console, self._strict = console, strict
        self._found: dict[int, Skip] = {}

    def add(self, skips: Sequence[Skip]) -> None:
        """Say those that are new. Raises UserError where they are not to be passed over."""
        for skip in skips:
            if skip["index"] in self._found:
                continue
            which = f"document {skip['id']!r} (number {skip['index']}) {skip['reason']}"
            if self._strict:
                raise UserError(f"{which}: take it out of the data, or leave out --strict_data to have it skipped")
            self._console.say(f"skipped: {which}")
            self._found[skip["index"]] = skip

    def take_over(self, skips: Sequence[Skip]) -> None:
        """Count those of an earlier session, which has said them."""
        self._found |= {skip["index"]: skip for skip in skips}

    @property
    def found(self) -> list[Skip]:
        """All of them, while others may be added."""
        return sorted(self._found.values(), key=lambda skip: skip["index"])

    def results(self) -> dict[str, Any]:
        """Their share of results.json: nothing where there are none."""
        return joined_skips([{SKIPPED: self.found}])


def refuse_nothing_left(done: Sequence[Any], dataset: str) -> None:
    """Raise UserError where every document was passed over."""
    if not done:
        raise UserError(f"every document of --dataset {dataset} was skipped, so there is nothing to score")


def joined_skips(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The share of the results of a trial whose shards, which have no document in common, have these results."""
    skips = [skip for results in parts for skip in results.get(SKIPPED, [])]
    return {"skipped_documents": len(skips), SKIPPED: skips} if skips else {}


def describe_skips(results: dict[str, Any]) -> str:
    """How many were passed over, as a line with its end; nothing where there were none."""
    number = results.get("skipped_documents", 0)
    return f"{counted(number, 'document')} skipped, which results.json names\n" if number else ""
