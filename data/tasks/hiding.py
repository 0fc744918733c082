"""Texts to hide facts in, and hiding them: an endless stretch of a corpus, repeated noise, sentences in between."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.corpus import Corpus
from data.get_data import get_data
from data.sources.text import parse_json, reading
from data.tasks.checking import pick_text
from utils.errors import UserError

NOISE = ("The grass is green.", "The sky is blue.", "The sun is yellow.", "Here we go.", "There and back again.")
LONGEST_SENTENCE = 60  # words; a text without full stops has places to hide something too
_END = re.compile(r"[.!?][\"'”’)\]]*$")


def noise(sentences: int) -> list[str]:
    """So many sentences of NOISE over and over, five to a text, the last with what is left."""
    full, rest = divmod(sentences, len(NOISE))
    return [" ".join(NOISE)] * full + ([" ".join(NOISE[:rest])] if rest else [])


def hide(texts: Sequence[str], hidden: Sequence[str], places: Sequence[float]) -> list[str]:
    """`texts` with hidden[i] put in after the share places[i] (0 to 1) of them; where places are equal, in order."""
    result, done = [], 0
    for place, text in sorted(zip(places, hidden), key=lambda pair: pair[0]):
        stop = round(place * len(texts))
        result += [*texts[done:stop], text]
        done = stop
    return result + list(texts[done:])


class Haystack:
    """The words of a corpus in the order of its documents, from the beginning again after the last one.

    Documents are read as far as words are asked for.
    """

    def __init__(self, corpus: Corpus) -> None:
        self._endless = _endless_words(corpus)
        self._words: list[str] = []
        self._ends: list[int] = [0]  # how many words there are at the end of each sentence

    def hide(self, words: int, hidden: Sequence[str], places: Sequence[float]) -> str:
        """So many words, with hidden[i] between two sentences, the nearest to the share places[i] of the words."""
        self._read(words)
        gaps = [self._nearest_end(place * words, words) / words if words else 0.0 for place in places]
        return " ".join(hide(self._words[:words], hidden, gaps))

    def _nearest_end(self, wanted: float, words: int) -> int:
        """The end of a sentence, or of the text of so many words, that is nearest to `wanted` words."""
        ends = self._ends[: bisect_right(self._ends, words)]
        at = bisect_left(ends, wanted)
        return min([*ends[max(0, at - 1) : at + 1], words], key=lambda end: abs(end - wanted))

    def _read(self, words: int) -> None:
        """Raises UserError where the corpus cannot be read or has no words."""
        while len(self._words) < words:
            self._words.append(next(self._endless))
            if _END.search(self._words[-1]) or len(self._words) - self._ends[-1] == LONGEST_SENTENCE:
                self._ends.append(len(self._words))


def open_haystack(name: str) -> Haystack:
    """The words of a corpus, or of RULER's essays: a .json file of one object whose `text` is all of them.

    Raises UserError.
    """
    if not name.endswith(".json"):
        return Haystack(get_data(name))
    path = Path(name).expanduser()
    with reading(path):
        essays = parse_json(path.read_bytes(), str(path))
    return Haystack(Corpus(name, OneText(path.name, pick_text(essays, "text", str(path)))))


@dataclass(frozen=True)
class OneText:
    """A Source of one document."""

    id: str
    text: str

    def __len__(self) -> int:
        return 1

    def read(self, place: int) -> tuple[str, str]:
        return self.id, self.text


def _endless_words(corpus: Corpus) -> Iterator[str]:
    while True:
        empty = True
        for document in corpus:
            for word in document.text.split():
                empty = False
                yield word
        if empty:
            raise UserError(f"--haystack {corpus.name} holds no words: give a corpus of texts")
