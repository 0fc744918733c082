"""Encoding of a document's text as token ids, and the bytes of text that the scored tokens stand for."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from data.beginning import beginning_tokens, encode_plain
from data.document import AnyDocument, LongDocument
from data.pieces import Offsets, piece_encoder
from data.token_cache import TokenCache
from utils.errors import UserError

NO_IDS = np.empty(0, dtype=np.int32)


@dataclass(frozen=True)
class EncodedText:
    """input_ids: a text's tokens, special ones included. bytes: of the UTF-8 text of all but the first."""

    input_ids: list[int]
    bytes: int


def encode_text(
    tokenizer: PreTrainedTokenizerBase, text: str, max_length: int | None, truncation_side: str = "right"
) -> EncodedText:
    """`encode_pieces` of a text in one piece."""
    return encode_pieces(tokenizer, (text,), max_length, truncation_side)


def encode_pieces(
    tokenizer: PreTrainedTokenizerBase, pieces: Iterable[str], max_length: int | None, truncation_side: str = "right"
) -> EncodedText:
    """Tokenize a text that comes in pieces, and cut what goes beyond `max_length` tokens off the given side.

    truncation_side: "right", then no more of the text is read than that needs, or "left".

    The tokens that the tokenizer puts at a beginning stay, whichever side is cut; at an end it puts none, whatever its
    settings. A beginning-of-sequence token is the one token that is not scored, so all of the text counts. A tokenizer
    that does not say where its tokens lie has the bytes counted on the decoded text.
    """
    first = beginning_tokens(tokenizer)
    most = None if max_length is None else max(0, max_length - len(first))
    enough = None if most is None else most + 1  # whether there is more changes what counts as scored
    encoder = piece_encoder(tokenizer)
    piece = encoder.beginning(pieces, enough) if truncation_side == "right" else encoder.end(pieces, enough)
    own = piece.input_ids
    left = len(own) if most is None else min(len(own), most)
    kept = slice(0, left) if truncation_side == "right" else slice(len(own) - left, len(own))
    input_ids = first + own[kept]
    if tokenizer.is_fast:
        scored = _scored_text(piece.text, piece.offsets[kept], bool(first), left < len(own), truncation_side)
    else:
        scored = tokenizer.decode(input_ids[1:], skip_special_tokens=True)
    return EncodedText(input_ids, len(scored.encode("utf-8", errors="replace")))


def unknown_token(
    tokenizer: PreTrainedTokenizerBase, input_ids: Sequence[int] | np.ndarray, vocab_size: int, where: str
) -> str | None:
    """The sentence that names a token which the model has no embedding for, and `where` it stands; else None."""
    highest = int(np.max(input_ids, initial=0))
    if highest < vocab_size:
        return None
    return (
        f"{where} has the token {tokenizer.convert_ids_to_tokens(highest)!r} (number {highest}), and the "
        f"model has only {vocab_size}: name the tokenizer that belongs to the model with --tokenizer_path"
    )


def stream_encoder(
    tokenizer: PreTrainedTokenizerBase, vocab_size: int, cache: TokenCache | None = None
) -> Callable[[AnyDocument], Iterator[np.ndarray]]:
    """A function from a document to its tokens without special ones, part by part, each when it is asked for.

    cache: where the tokens of documents are kept, and taken from; those of a long document never are. A part with an
    unknown token raises UserError.
    """
    encoder = piece_encoder(tokenizer)

    def parts_of(document: AnyDocument) -> Iterator[np.ndarray]:
        if cache is None or isinstance(document, LongDocument):
            yield from encoder.ids(document.pieces())
        elif (kept := cache.get(document)) is not None:
            yield kept
        else:
            yield cache.add(document, np.concatenate([NO_IDS, *encoder.ids(document.pieces())]))

    def encode(document: AnyDocument) -> Iterator[np.ndarray]:
        for input_ids in parts_of(document):
            refusal = unknown_token(tokenizer, input_ids, vocab_size, f"document {document.id!r}")
            if refusal:
                raise UserError(refusal)
            yield input_ids

    return encode


def encode_separator(tokenizer: PreTrainedTokenizerBase, separator: str) -> list[int]:
    """The tokens of --document_separator. Raises UserError for 'eos' where the tokenizer has none."""
    if separator == "none":
        return []
    if separator != "eos":
        return encode_plain(tokenizer, separator.replace("\\n", "\n"))
    if tokenizer.eos_token_id is None:
        raise UserError("--document_separator eos: the tokenizer has no end-of-sequence token; give a text or 'none'")
    return [tokenizer.eos_token_id]


def pad_right(rows: Sequence[Sequence[int]]) -> Tensor:
    """int64 [batch, longest]; padded with token 0, which no real token attends to, since it comes after."""
    padded = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    for row, ids in zip(padded, rows):
        row[: len(ids)] = torch.tensor(ids)
    return padded


def _scored_text(text: str, offsets: Offsets, begun: bool, cut: bool, side: str) -> str:
    """The text that these tokens stand for, without that of the first one unless special ones come before it (begun).

    cut: whether the text goes on beyond them at that side.
    """
    if not offsets:
        return ""
    begin = offsets[0][1]
    if begun:
        begin = offsets[0][0] if cut and side == "left" else 0
    end = max(stop for _, stop in offsets) if cut and side == "right" else len(text)
    return text[begin:end]
