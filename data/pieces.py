"""Tokenizing a text in pieces, to exactly the ids of the whole: memory follows a piece, and what is not asked stays."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, chain
from weakref import WeakKeyDictionary

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from data.cuts import PIECE, encode_part, find_cuts
from utils.errors import UserError
from utils.ranks.runtime import free_memory

LARGE = 1_000_000
"""Characters in one piece from which on it is said what they take."""
BYTES_OF_CHARACTER = 500
"""Of memory while a piece is tokenized: prose takes some 180, a text without blanks more (20 MB of "a" took 470)."""
Offsets = list[tuple[int, int]]


@dataclass(frozen=True)
class Piece:
    """Tokens of a part of a text. offsets: of each in the part's text, None where the tokenizer does not tell."""

    text: str
    input_ids: list[int]
    offsets: Offsets | None


class PieceEncoder:
    """Tokenizes texts without special tokens. A text comes as pieces, of any length, as documents give it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer, self.cuts = tokenizer, find_cuts(tokenizer)
        self._said = False

    def ids(self, pieces: Iterable[str]) -> Iterator[np.ndarray]:
        """A text's ids, int32, part by part, each tokenized when it is asked for.

        In a thread of its own: one that lives on keeps memory of every long text it has seen.
        """
        for number, part in enumerate(self._parts(pieces)):
            with ThreadPoolExecutor(1) as thread:
                ids = thread.submit(self._encode, part, number > 0).result().input_ids
            yield np.array(ids, dtype=np.int32)

    def beginning(self, pieces: Iterable[str], most: int | None) -> Piece:
        """The first tokens of a text, and what was read for them: all, or at least `most` and perhaps some more."""
        parts = enumerate(self._parts(pieces))
        return _joined(_enough((self._encode(part, number > 0, offsets=True) for number, part in parts), most))

    def end(self, pieces: Iterable[str], most: int | None) -> Piece:
        """The last tokens of a text, as `beginning` has the first ones. All of the text is read and held."""
        parts = list(enumerate(self._parts(pieces)))[::-1]
        return _joined(_enough((self._encode(part, number > 0, offsets=True) for number, part in parts), most)[::-1])

    def _parts(self, pieces: Iterable[str]) -> Iterator[str]:
        for part in self.cuts.parts(pieces, PIECE) if self.cuts is not None else ["".join(pieces)]:
            if len(part) > LARGE:
                self._check_memory(len(part))
            yield part

    def _check_memory(self, characters: int) -> None:
        """Say what so many characters in one piece take. Raises UserError where there is not so much."""
        needed, free = characters * BYTES_OF_CHARACTER / 2**30, free_memory(torch.device("cpu")) / 2**30
        why = "this tokenizer allows no cut" if self.cuts is None else "there is nothing, such as a blank, to cut at"
        whole = f"{characters:,} characters of a text are tokenized whole, as {why}: that may take {needed:.1f} GiB"
        if needed > free:
            raise UserError(f"{whole}, and {free:.1f} are free: give a shorter text, or one with blanks")
        if not self._said:
            self._said = True
            print(f"warning: {whole}", file=sys.stderr, flush=True)

    def _encode(self, part: str, follows: bool, offsets: bool = False) -> Piece:
        """follows: whether there is text before it."""
        told = offsets and self.tokenizer.is_fast
        encoding = encode_part(self.tokenizer, part, return_offsets_mapping=told)
        added = self.cuts.added if self.cuts and follows else 0
        return Piece(part, encoding["input_ids"][added:], encoding["offset_mapping"][added:] if told else None)


def _enough(pieces: Iterator[Piece], most: int | None) -> list[Piece]:
    taken, count = [], 0
    for piece in pieces:
        taken.append(piece)
        count += len(piece.input_ids)
        if most is not None and count >= most:
            break
    return taken


def _joined(pieces: Sequence[Piece]) -> Piece:
    """Pieces that follow each other, as one."""
    starts = accumulate((len(piece.text) for piece in pieces), initial=0)
    told = all(piece.offsets is not None for piece in pieces)
    return Piece(
        "".join(piece.text for piece in pieces),
        list(chain.from_iterable(piece.input_ids for piece in pieces)),
        [(start + first, start + last) for start, piece in zip(starts, pieces) for first, last in piece.offsets]
        if told
        else None,
    )


_ENCODERS: WeakKeyDictionary[PreTrainedTokenizerBase, PieceEncoder] = WeakKeyDictionary()


def piece_encoder(tokenizer: PreTrainedTokenizerBase) -> PieceEncoder:
    """The one encoder of a tokenizer: what cuts it allows is found out once."""
    if tokenizer not in _ENCODERS:
        _ENCODERS[tokenizer] = PieceEncoder(tokenizer)
    return _ENCODERS[tokenizer]
