"""The contract between the registry of data sources and its entries: what each is given, and what it must be."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol

from data.document import LongText
from utils.errors import UserError

MOST_DOCUMENT_BYTES = 1 << 30
"""Of a line or file that is one document, unless the user says otherwise."""


class Source(Protocol):
    """Documents in their own order, read one at a time; holds places, never all texts."""

    def __len__(self) -> int: ...

    def read(self, place: int) -> tuple[str, str | LongText]:
        """(id, text) of the document at `place`, 0 <= place < len(self). Raises UserError."""
        ...


@dataclass(frozen=True)
class DataRequest:
    """The user's data flags; every source is opened with one.

    needed: how many documents, from the first in the source's own order, will be read at most
        (None: all); a source may stop looking for more once it knows that many.
    max_document_bytes: of a line or file that is one document; a longer one is refused.
    """

    name: str
    dataset_dir: Path | None = None
    dataset_group: str | None = None
    split: str = "test"
    text_field: str = "text"
    needed: int | None = None
    max_document_bytes: int = MOST_DOCUMENT_BYTES

    def refuse(self, *flags: str) -> None:
        """Raise a UserError if one of these flags, which the source cannot honour, is not at its default."""
        defaults = {field.name: field.default for field in fields(self)}
        for flag in flags:
            value = getattr(self, flag)
            if value != defaults[flag]:
                raise UserError(f"--{flag} {value} means nothing to --dataset {self.name}: leave it out")


def check_group(group: str, groups: set[str], folder: Path) -> None:
    """Raise a UserError that lists the groups of `folder` if `group` is not one."""
    if group not in groups:
        there = ", ".join(sorted(groups)) or "none"
        raise UserError(f"--dataset_group {group} is not in {folder}, whose groups are: {there}")
