"""Groups of examples of about equal length, the same for all methods of a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np

from utils.trials.samples import Sample
from visualization.drawing.methods import Method, finished, length_of

MOST_GROUPS = 12
FILLED = 0.75
"""The least share of --max_length that prompts have which were made for that length."""
REQUESTED = "requested length (tokens)"


@dataclass(frozen=True)
class LengthGroups:
    """starts: the shortest length of each group, int64 `[groups]`, ascending. lengths: where it stands, `[groups]`.

    A group stands at the length that was requested where prompts were made for one, otherwise at its mean length.
    """

    starts: np.ndarray
    lengths: np.ndarray
    axis: str

    @classmethod
    def over(cls, methods: Sequence[Method], most: int = MOST_GROUPS) -> Self:
        """At most so many groups of these methods' examples.

        Without requested lengths, those of a group lie within 2% of its shortest, or within so much more.
        """
        requested = _spans(methods)
        if requested and len(requested) <= most:
            starts = np.array([low for low, _ in requested.values()], dtype=np.int64)
            return cls(starts, np.array(list(requested), dtype=np.float64), REQUESTED)
        samples = [sample for method in methods for sample in method.samples]
        lengths = np.array([length_of(sample) for sample in samples])
        starts = _about_equal(np.unique(lengths), most)
        groups = _group_of(lengths, starts)
        means = np.bincount(groups, lengths, len(starts)) / np.bincount(groups, minlength=len(starts))
        return cls(starts, means, "prompt length (tokens)" if "length" in samples[0] else "position (tokens)")

    def of(self, samples: Sequence[Sample]) -> np.ndarray:
        """The group of each example, from 0; int64 `[samples]`."""
        return _group_of(np.array([length_of(sample) for sample in samples], dtype=np.int64), self.starts)


def _group_of(lengths: np.ndarray, starts: np.ndarray) -> np.ndarray:
    return np.searchsorted(starts, lengths, side="right") - 1


def _spans(methods: Sequence[Method]) -> dict[int, tuple[int, int]] | None:
    """The shortest and longest prompt by --max_length, ascending; None where they were not made for these lengths."""
    lengths: dict[int, list[int]] = {}
    for method in methods:
        for trial in method.trials:
            own = [sample.get("length", 0) for sample in finished(trial)]
            lengths.setdefault(trial.arguments.get("max_length") or 0, []).extend(own)
    spans = {asked: (min(own), max(own)) for asked, own in sorted(lengths.items()) if own}
    made = all(FILLED * asked < low and high <= asked for asked, (low, high) in spans.items())
    apart = all(high < low for (_, high), (low, _) in pairwise(spans.values()))
    return spans if made and apart else None


def _about_equal(lengths: np.ndarray, most: int) -> np.ndarray:
    """The shortest lengths of groups, from ascending lengths."""
    ratio = 1.02
    while len(starts := _starts(lengths, ratio)) > most:
        ratio **= 2
    return starts


def _starts(lengths: np.ndarray, ratio: float) -> np.ndarray:
    starts = [lengths[0]]
    for length in lengths:
        if length > ratio * starts[-1]:
            starts.append(length)
    return np.array(starts, dtype=np.int64)
