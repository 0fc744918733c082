"""An endless stream of tokens from a corpus: shuffled anew each pass, tokenized document by document."""

import random
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from data.corpus import Corpus
from data.document import AnyDocument
from utils.errors import UserError

Encode = Callable[[AnyDocument], Iterable[Sequence[int] | np.ndarray]]
"""From a document to its tokens without special ones, part by part."""


@dataclass(frozen=True)
class Cursor:
    """Standing of a stream: `offset` tokens into the piece of the document at `place` in the order of a pass.

    A document's piece is the separator before it and its own tokens. begun: whether an earlier document had any. The
    order is drawn from the seed and the number of the pass, so this is all the random state there is.
    """

    pass_number: int = 0
    place: int = 0
    offset: int = 0
    begun: bool = False

    def to_json(self) -> dict[str, int | bool]:
        return asdict(self)


class TokenStream:
    """`read(n)` gives the next n tokens, for ever; `cursor` says where the stream stands, to go on from there.

    encode: it may raise UserError, at any part. first: what the stream begins with (the beginning-of-sequence token),
    or nothing. separator: the tokens between two documents. cursor: where to go on; a UserError where the document
    there has become shorter.
    Memory: one part of a document's tokens, as `encode` gives them, and 8 bytes per document of the corpus.
    """

    def __init__(
        self,
        corpus: Corpus,
        encode: Encode,
        seed: int,
        first: list[int],
        separator: list[int],
        cursor: Cursor | None = None,
    ) -> None:
        self.corpus, self.encode, self.seed = corpus, encode, seed
        self.first, self.separator = first, separator
        cursor = cursor or Cursor()
        self._pass, self._place, self._offset = cursor.pass_number, cursor.place, cursor.offset
        self._begun = cursor.begun
        self._order = pass_order(len(corpus), seed, self._pass)
        self._empty_documents = 0
        self._piece = self._read_piece() if self._offset else Piece([], ())
        if self._offset and (self._piece.skip(self._offset) < self._offset or self._piece.ended):
            raise UserError(
                f"--dataset {corpus.name}: document {corpus[self._order[self._place]].id!r} is shorter than when the "
                "stream stopped in the middle of it: put the text and the tokenizer back, or start afresh with "
                "--overwrite"
            )

    @property
    def cursor(self) -> Cursor:
        return Cursor(self._pass, self._place, self._offset, self._begun)

    def read(self, count: int) -> np.ndarray:
        """The next `count` tokens, int64. Raises UserError for a bad document, or a corpus without any token."""
        parts: list[np.ndarray] = []
        while count:
            if not self._offset:
                self._piece = self._read_piece()
            part = self._piece.read(count)
            parts.append(part)
            count -= len(part)
            self._offset += len(part)
            if self._piece.ended:
                self._next_document()
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def _next_document(self) -> None:
        self._begun = self._begun or self._offset > 0
        self._place, self._offset = self._place + 1, 0
        if self._place == len(self._order):
            self._pass, self._place = self._pass + 1, 0
            self._order = pass_order(len(self.corpus), self.seed, self._pass)

    def _read_piece(self) -> "Piece":
        """The document at the cursor with what comes before it; without a token of its own it is no piece at all."""
        before = self.separator if self._begun else self.first
        piece = Piece(before, self.encode(self.corpus[self._order[self._place]]))
        self._empty_documents = self._empty_documents + 1 if piece.ended else 0
        # The last of one pass and the first of the next: one document with text leaves this many empty ones in a row.
        if self._empty_documents > 2 * (len(self.corpus) - 1):
            raise UserError(f"--dataset {self.corpus.name}: its {len(self.corpus)} documents hold no token to score")
        return piece


class Piece:
    """The tokens `before` a document and its own, which stay as they are (a file, perhaps) until they are read.

    ended: whether none is left; without a token of its own it has none at all.
    """

    def __init__(self, before: Sequence[int], parts: Iterable[Sequence[int] | np.ndarray]) -> None:
        """parts: of the document's tokens, of which one that is not read yet is made."""
        self._parts = (part for part in parts if len(part))
        self._next = next(self._parts, None)
        self._part: np.ndarray | None = None
        self._offset = 0
        if self._next is not None:
            self._part = np.array(before, dtype=np.int64)
            self._go_on()

    @property
    def ended(self) -> bool:
        return self._part is None

    def read(self, count: int) -> np.ndarray:
        """The next tokens, int64: `count` of them, or fewer, but not none before the end."""
        if self._part is None:
            return np.empty(0, dtype=np.int64)
        found = self._part[self._offset : self._offset + count].astype(np.int64)
        self._offset += len(found)
        self._go_on()
        return found

    def skip(self, count: int) -> int:
        """Pass `count` tokens by, or all that are left; returns how many."""
        left = count
        while left and not self.ended:
            left -= len(self.read(left))
        return count - left

    def _go_on(self) -> None:
        """Have the next part where this one is read."""
        if self._offset == len(self._part):
            following, self._next = self._next, None
            following = next(self._parts, None) if following is None else following
            self._part, self._offset = None if following is None else np.asarray(following), 0


def pass_order(documents: int, seed: int, pass_number: int) -> array:
    """The order of a pass over documents 0 to n - 1: the same for the same seed and pass on every machine."""
    order = array("q", range(documents))
    random.Random(f"{seed}/{pass_number}").shuffle(order)
    return order
