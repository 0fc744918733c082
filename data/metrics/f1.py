"""Exact match and F1 as SQuAD's evaluation script defines them (Rajpurkar et al., 2016, arXiv 1606.05250)."""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(text: str) -> str:
    """Lower case, without ASCII punctuation and the articles a, an and the, words apart by one space."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def best_of(score: Callable[[str, str], float], prediction: str, targets: Sequence[str]) -> float:
    """The highest score(prediction, target) over the reference answers; ValueError where there is none."""
    return max(score(prediction, target) for target in targets)


def token_f1(prediction: str, target: str) -> float:
    """Harmonic mean of precision and recall of the target's normalized words, 0 to 1; 0 if they share none."""
    return _word_f1(prediction, target, _words)


def f1(prediction: str, targets: Sequence[str]) -> float:
    """`token_f1`, the highest over the reference answers."""
    return best_of(token_f1, prediction, targets)


def ascii_f1(prediction: str, targets: Sequence[str]) -> float:
    """`f1` of words in ASCII, as ZeroSCROLLS compares them: "café" is "cafe"."""
    return best_of(partial(_word_f1, words_of=_ascii_words), prediction, targets)


def exact_match(prediction: str, targets: Sequence[str]) -> float:
    """1 if the normalized prediction is one of the normalized reference answers, else 0."""
    return float(normalize(prediction) in {normalize(target) for target in targets})


def _words(text: str) -> list[str]:
    return normalize(text).split()


def _ascii_words(text: str) -> list[str]:
    from unidecode import unidecode  # its tables are read for this alone

    return unidecode(normalize(text)).split()


def _word_f1(prediction: str, target: str, words_of: Callable[[str], list[str]]) -> float:
    predicted, wanted = words_of(prediction), words_of(target)
    shared = sum((Counter(predicted) & Counter(wanted)).values())
    return 2 * shared / (len(predicted) + len(wanted)) if shared else 0.0
