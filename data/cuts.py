"""Where a text may be cut so that its parts are tokenized to exactly the ids of the whole.

A cut lies between a letter and the newline behind it, or the space behind it where a letter follows. The pre-tokenizers
below split there whatever comes before or after, so nothing on one side changes a token of the other. A BPE without
pre-tokenizer (Llama 2's) is cut before newlines alone, of which no token may hold more than one.

Which tokenizers these are is read from their own JSON; each is tried out once, and any other one is never cut.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PIECE = 1 << 18
"""Characters of a piece, or a few more up to the next cut; tokenizers take some 180 bytes for each byte of a text."""
LOCAL_NORMALIZERS = ("NFC", "NFD", "NFKC", "NFKD", "Prepend", "Replace")
"""Those that change a character by itself, or with marks behind it; Prepend adds one at the beginning."""
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
KNOWN_SPLITS = (_WORDS + r"\p{N}{1,3}" + _REST, _WORDS + r"\p{N}" + _REST)
"""Of Llama 3 and of Qwen 2."""
NEWLINE_TOKENS = ("\n", "<0x0A>")
_PROBES = ("a\na", "a\n\n b1\nc", "the word\n  and\n\n\nmore, 12\ta\n'll\n.", "a\nÀ\n中文\n\u0301x")
_CANDIDATES = re.compile(r"[\n ]")
Json = dict[str, Any]


@dataclass(frozen=True)
class Cuts:
    """How texts are cut: before newlines, and before `spaces` too? added: tokens that only a part begins with."""

    spaces: bool
    added: int

    def parts(self, pieces: Iterable[str], size: int = PIECE) -> Iterator[str]:
        """The parts of a text that comes in pieces of any length: each of `size` characters, or more up to a cut.

        Of the text no more is held than a part and a piece.
        """
        held, start, looked = "", 0, size
        for piece in pieces:
            held, looked, start = held[start:], looked - start, 0
            held += piece
            while (end := self._next(held, looked)) is not None:
                yield held[start:end]
                start, looked = end, end + size
            looked = max(looked, len(held) - 1)  # of the last character it depends on what follows
        if start < len(held):
            yield held[start:]

    def _next(self, text: str, start: int) -> int | None:
        """The first cut from `start` on that these characters show."""
        for match in _CANDIDATES.finditer(text, max(start, 1)):
            place = match.start()
            if not _is_letter(text[place - 1]):
                continue
            if text[place] == "\n" or (self.spaces and place + 1 < len(text) and _is_letter(text[place + 1])):
                return place
        return None


def find_cuts(tokenizer: "PreTrainedTokenizerBase") -> Cuts | None:
    """The cuts that a tokenizer allows; None where its texts must stay whole."""
    if not tokenizer.is_fast:
        return None
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    if not (_is_local(backend["normalizer"]) and _lets_cut(backend["added_tokens"])):
        return None
    splits = _splits(backend["pre_tokenizer"])
    if not splits and not _keeps_newlines_apart(backend):
        return None
    added = _added(tokenizer)
    cuts = None if added is None else Cuts(splits and added == 0, added)
    return cuts if cuts and all(_is_exact(tokenizer, cuts, probe) for probe in _PROBES) else None


def encode_part(tokenizer: "PreTrainedTokenizerBase", text: str, **options: Any) -> Any:
    """The tokenizer's encoding of a text, none added at its ends."""
    return tokenizer(text, add_special_tokens=False, return_attention_mask=False, verbose=False, **options)


def _is_letter(character: str) -> bool:
    """A letter of Unicode 3.2, which is one for every library since."""
    return unicodedata.ucd_3_2_0.category(character).startswith("L")


def _is_local(normalizer: Json | None) -> bool:
    if normalizer is None:
        return True
    if normalizer["type"] == "Sequence":
        return all(map(_is_local, normalizer["normalizers"]))
    if normalizer["type"] == "Replace":
        return normalizer["pattern"].get("String") == " "
    return normalizer["type"] in LOCAL_NORMALIZERS


def _lets_cut(added_tokens: list[Json]) -> bool:
    """Whether no cut lies within an added token, or where one looks beyond its end."""
    return not any(
        token["single_word"]
        or (token["rstrip"] and token["content"][-1:].isalpha())
        or re.search(r"\w[\n ]", token["content"])
        for token in added_tokens
    )


def _splits(pre_tokenizer: Json | None) -> bool:
    """Whether it always splits at a cut, and does nothing else to a part than to the whole."""
    if pre_tokenizer is None:
        return False
    steps = pre_tokenizer["pretokenizers"] if pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]
    return all(map(_is_known, steps)) and any(map(_splits_words, steps))


def _is_known(step: Json) -> bool:
    if step["type"] == "ByteLevel":
        return not step["add_prefix_space"]
    return step["type"] == "Digits" or _splits_words(step)


def _splits_words(step: Json) -> bool:
    if step["type"] == "ByteLevel":
        return step["use_regex"]
    return step["type"] == "Split" and step["pattern"].get("Regex") in KNOWN_SPLITS


def _keeps_newlines_apart(backend: Json) -> bool:
    """Whether a newline is always a token of its own, of a BPE over the whole text."""
    pre_tokenizer, model = backend["pre_tokenizer"], backend["model"]
    if pre_tokenizer is not None and pre_tokenizer["type"] != "Metaspace":
        return False
    if model["type"] != "BPE" or model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        return False
    known = "\n" in model["vocab"] or (model["byte_fallback"] and "<0x0A>" in model["vocab"])
    joined = any(newline in token and token != newline for token in model["vocab"] for newline in NEWLINE_TOKENS)
    return known and not joined and not model.get("dropout")


def _added(tokenizer: "PreTrainedTokenizerBase") -> int | None:
    """How many tokens are added at the beginning of a part; None where that is not seen."""
    whole, before, behind = (encode_part(tokenizer, text)["input_ids"] for text in ("a\na", "a", "\na"))
    return next((count for count in (0, 1) if before + behind[count:] == whole), None)


def _is_exact(tokenizer: "PreTrainedTokenizerBase", cuts: Cuts, text: str) -> bool:
    ids: list[int] = []
    for number, part in enumerate(cuts.parts([text], size=1)):
        ids += encode_part(tokenizer, part)["input_ids"][cuts.added if number else 0 :]
    return ids == encode_part(tokenizer, text)["input_ids"]
