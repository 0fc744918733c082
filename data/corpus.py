"""The documents that a run reads: a source, an order, and a stretch of that order."""

import random
from array import array
from collections.abc import Iterator, Sequence

from data.document import AnyDocument, Document, LongDocument
from data.sources.source import Source
from data.sources.text import NoTextError
from utils.errors import UserError


class Corpus:
    """A lazy sequence of Documents: iterate it, again if need be, or read one by its place.

    `corpus[i]` reads only document i of the selection, so ranks can share the documents out without
    reading each other's. Reading raises UserError where a document is bad, and not before. unread: names of files in
    its folder that are passed over.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        *,
        start_data_from: int = 0,
        max_data_num: int | None = None,
        seed: int | None = None,
        strict: bool = True,
    ):
        """Documents `start_data_from`, ... of `source`, at most `max_data_num` (None: all the rest).

        seed: None keeps the source's order, an int draws one from it before the stretch is taken. strict: whether
        null in place of a text is an error; else it reads as an empty text, whose id is where it stands.
        Raises UserError if nothing is left to read.
        """
        if len(source) == 0:
            raise UserError(f"--dataset {name} holds no documents")
        if start_data_from >= len(source):
            raise UserError(
                f"--start_data_from {start_data_from} is beyond the end of --dataset {name}: "
                f"it holds {len(source)} documents, counted from 0"
            )
        self.name = name
        self.unread: Sequence[str] = getattr(source, "unread", ())
        self._source, self._strict = source, strict
        self._start = start_data_from
        stop = None if max_data_num is None else start_data_from + max_data_num
        self._places = document_order(len(source), seed)[start_data_from:stop]

    def __len__(self) -> int:
        return len(self._places)

    @property
    def end(self) -> int:
        """The index after that of its last document."""
        return self._start + len(self)

    def __getitem__(self, place: int) -> AnyDocument:
        """Document `place` of the selection, 0 <= place < len(self); IndexError beyond."""
        if not 0 <= place < len(self):
            raise IndexError(f"document {place} of {len(self)}")
        try:
            identifier, text = self._source.read(self._places[place])
        except NoTextError as error:
            if self._strict:
                raise
            identifier, text = error.where, ""
        kind = Document if isinstance(text, str) else LongDocument
        return kind(identifier, self._start + place, text)

    def __iter__(self) -> Iterator[AnyDocument]:
        return (self[place] for place in range(len(self)))


def document_order(count: int, seed: int | None) -> range | array:
    """The numbers 0 to count - 1: in order, or shuffled, the same for the same seed on every machine."""
    if seed is None:
        return range(count)
    order = array("q", range(count))
    random.Random(seed).shuffle(order)
    return order
