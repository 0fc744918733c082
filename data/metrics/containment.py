"""Metrics that ask whether a prediction contains its reference answers."""

import re
from collections.abc import Sequence

_CONTROL = re.compile(r"[\x00-\x1f]")


def clean(prediction: str) -> str:
    """The text as RULER compares it: lower case, control characters as newlines, no space at the ends."""
    return _CONTROL.sub("\n", prediction.strip()).strip().lower()


def string_match_all(prediction: str, targets: Sequence[str]) -> float:
    """RULER's score (arXiv 2404.06654): the share of targets that are a part of the prediction, whatever their case."""
    text = clean(prediction)
    return sum(target.lower() in text for target in targets) / len(targets)


def string_match_part(prediction: str, targets: Sequence[str]) -> float:
    """RULER's score of its question answering tasks: 1 if any target is a part of the prediction, else 0."""
    text = clean(prediction)
    return float(any(target.lower() in text for target in targets))


def words_found(prediction: str, targets: Sequence[str]) -> float:
    """The share of targets that the prediction contains exactly: as words or numbers of their own, in their case."""
    return sum(bool(re.search(rf"(?<!\w){re.escape(target)}(?!\w)", prediction)) for target in targets) / len(targets)


def first_number(prediction: str, targets: Sequence[str]) -> float:
    """1 if the first whole number in the prediction is a target's, else 0: the published score of a pass key."""
    found = re.search(r"\d+", prediction, re.ASCII)
    # Compared as digits: Python refuses to make an int of thousands of them.
    return float(found is not None and _digits(found[0]) in {_digits(target) for target in targets})


def first_line(output: str) -> str:
    """The output up to its first newline, where the published scripts end a generation."""
    return output.partition("\n")[0]


def _digits(text: str) -> str:
    return text.lstrip("0") or "0"
