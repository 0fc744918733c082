"""An endless stream of tokens from a corpus: shuffled anew each pass, tokenized document by document."""

import random
from array import array
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from data.corpus import Corpus
from data.document import Document
from utils.errors import UserError

Encode = Callable[[Document], Sequence[int] | np.ndarray]


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

    encode: a document's tokens without special ones; it may raise UserError. first: what the stream begins with (the
    beginning-of-sequence token), or nothing. separator: the tokens between two documents. cursor: where to go on; a
    UserError where the document there has become shorter.
    Memory: one document's tokens, as `encode` gives them, and 8 bytes per document of the corpus.
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
        self._piece = self._read_piece() if self._offset else Piece([], [])
        if self._offset and self._offset >= len(self._piece):
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
            part = self._piece.part(self._offset, count)
            parts.append(part)
            count -= len(part)
            self._offset += len(part)
            if self._offset == len(self._piece):
                self._next_document()
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def _next_document(self) -> None:
        self._begun = self._begun or len(self._piece) > 0
        self._place, self._offset = self._place + 1, 0
        if self._place == len(self._order):
            self._pass, self._place = self._pass + 1, 0
            self._order = pass_order(len(self.corpus), self.seed, self._pass)

    def _read_piece(self) -> "Piece":
        """The document at the cursor with what comes before it; without a token of its own it is no piece at all."""
        tokens = self.encode(self.corpus[self._order[self._place]])
        self._empty_documents = 0 if len(tokens) else self._empty_documents + 1
        # The last of one pass and the first of the next: one document with text leaves this many empty ones in a row.
        if self._empty_documents > 2 * (len(self.corpus) - 1):
            raise UserError(f"--dataset {self.corpus.name}: its {len(self.corpus)} documents hold no token to score")
        before = self.separator if self._begun else self.first
        return Piece(before if len(tokens) else [], tokens)


class Piece:
    """The tokens `before` a document and its own, which stay as they are (a file, perhaps) until they are read."""

    def __init__(self, before: list[int], tokens: Sequence[int] | np.ndarray) -> None:
        self._before = np.array(before, dtype=np.int64)
        self._tokens = tokens if isinstance(tokens, np.ndarray) else np.array(tokens, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._before) + len(self._tokens)

    def part(self, offset: int, count: int) -> np.ndarray:
        """Tokens from `offset` on, int64: `count` of them, or fewer, but not none before the end."""
        if offset < len(self._before):
            return self._before[offset : offset + count]
        start = offset - len(self._before)
        return self._tokens[start : start + count].astype(np.int64)


def pass_order(documents: int, seed: int, pass_number: int) -> array:
    """The order of a pass over documents 0 to n - 1: the same for the same seed and pass on every machine."""
    order = array("q", range(documents))
    random.Random(f"{seed}/{pass_number}").shuffle(order)
    return order
