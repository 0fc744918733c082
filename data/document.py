"""One text to read, whatever corpus it came from."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


class LongText(Protocol):
    """A text that is read piece by piece, from its beginning each time, and never held whole."""

    def pieces(self) -> Iterator[str]:
        """Its pieces, one after the other. Raises UserError at what is no text."""
        ...


@dataclass(frozen=True)
class Document:
    """A document of a corpus.

    id: names it within its corpus, the same in every run ("tragedies/macbeth", "ArXiv.jsonl:17").
    index: its place in the corpus's selected order, counted before `start_data_from` is applied.
    text: the whole text.
    """

    id: str
    index: int
    text: str

    def pieces(self) -> Iterator[str]:
        """The text, as that of a long document comes."""
        yield self.text


@dataclass(frozen=True)
class LongDocument:
    """A document that is read as far as it is needed; `text` reads all of it. The fields as of a Document."""

    id: str
    index: int
    source: LongText

    def pieces(self) -> Iterator[str]:
        """The text, piece by piece."""
        return self.source.pieces()

    @property
    def text(self) -> str:
        return "".join(self.pieces())


AnyDocument = Document | LongDocument
