"""Tokenizing a text in pieces, to exactly the ids of the whole: memory follows a piece, and what is not asked stays."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from weakref import WeakKeyDictionary

import numpy as np
from transformers import PreTrainedTokenizerBase

from data.cuts import PIECE, encode_part, find_cuts

LARGE = 100_000_000
"""Characters from which on it is said that a text is tokenized whole."""
Offsets = list[tuple[int, int]]


@dataclass(frozen=True)
class Piece:
    """Tokens of a part of a text. offsets: of each in the whole text, None where the tokenizer does not tell."""

    input_ids: list[int]
    offsets: Offsets | None


class PieceEncoder:
    """Tokenizes texts without special tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer, self.cuts = tokenizer, find_cuts(tokenizer)
        self._said = False

    def ids(self, text: str) -> np.ndarray:
        """All of a text's ids, int32 [n]."""
        found = [np.array(self._encode(text, *part).input_ids, dtype=np.int32) for part in self._parts(text)]
        return np.concatenate(found) if found else np.empty(0, dtype=np.int32)

    def beginning(self, text: str, most: int | None) -> Piece:
        """The first tokens of a text: all, or at least `most` and perhaps some more."""
        return self._collect((self._encode(text, *part, offsets=True) for part in self._parts(text)), most)

    def end(self, text: str, most: int | None) -> Piece:
        """The last tokens of a text: all, or at least `most` and perhaps some more."""
        parts = reversed(list(self._parts(text)))
        return self._collect((self._encode(text, *part, offsets=True) for part in parts), most, backwards=True)

    def _collect(self, pieces: Iterator[Piece], most: int | None, backwards: bool = False) -> Piece:
        taken, count = [], 0
        for piece in pieces:
            taken.append(piece)
            count += len(piece.input_ids)
            if most is not None and count >= most:
                break
        ordered = taken[::-1] if backwards else taken
        offsets = [piece.offsets for piece in ordered]
        told = self.tokenizer.is_fast
        return Piece(
            list(chain.from_iterable(piece.input_ids for piece in ordered)),
            list(chain.from_iterable(offsets)) if told else None,
        )

    def _parts(self, text: str) -> Iterator[tuple[int, int]]:
        if self.cuts is not None:
            return self.cuts.parts(text, PIECE)
        if len(text) > LARGE and not self._said:
            self._said = True
            print(
                f"warning: a text of {len(text):,} characters is tokenized whole, as this tokenizer needs it: that "
                "takes some 180 times its size in memory",
                file=sys.stderr,
                flush=True,
            )
        return iter([(0, len(text))])

    def _encode(self, text: str, start: int, end: int, offsets: bool = False) -> Piece:
        told = offsets and self.tokenizer.is_fast
        encoding = encode_part(self.tokenizer, text[start:end], return_offsets_mapping=told)
        added = self.cuts.added if self.cuts and start else 0
        places = [(start + first, start + last) for first, last in encoding["offset_mapping"][added:]] if told else None
        return Piece(encoding["input_ids"][added:], places)


_ENCODERS: WeakKeyDictionary[PreTrainedTokenizerBase, PieceEncoder] = WeakKeyDictionary()


def piece_encoder(tokenizer: PreTrainedTokenizerBase) -> PieceEncoder:
    """The one encoder of a tokenizer: what cuts it allows is found out once."""
    if tokenizer not in _ENCODERS:
        _ENCODERS[tokenizer] = PieceEncoder(tokenizer)
    return _ENCODERS[tokenizer]
