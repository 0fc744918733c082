"""The metrics of ZeroSCROLLS (Shaham et al., 2023, arXiv 2305.14196), F1 aside, whose place is data/metrics/f1.py."""

import math
import re
from collections.abc import Sequence
from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING

from data.metrics.f1 import best_of

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL")


def rouge_geometric_mean(prediction: str, targets: Sequence[str]) -> float:
    """Geometric mean of `rouge_components`, of one text; of a corpus it is that of the three means over the texts."""
    return math.prod(rouge_components(prediction, targets).values()) ** (1 / len(ROUGE_TYPES))


def rouge_components(prediction: str, targets: Sequence[str]) -> dict[str, float]:
    """F-measures of ROUGE-1, -2 and -L without stemming, each the highest over the targets."""
    scores = [_rouge_scorer().score(target, prediction) for target in targets]
    return {kind: max(score[kind].fmeasure for score in scores) for kind in ROUGE_TYPES}


def choice_accuracy(prediction: str, targets: Sequence[str]) -> float:
    """1 if the first of the letters A to D that stands alone in the prediction is that of a target, else 0."""
    choice = _choice(prediction)
    return float(choice is not None and choice in {_choice(target) for target in targets})


def exponential_similarity(prediction: str, targets: Sequence[str]) -> float:
    """0.5 ** (|p - q| / 10) for the first percentages p and q of prediction and target; 0 where there is none."""
    return best_of(_similarity, prediction, targets)


def concordance_index(prediction: str, targets: Sequence[str]) -> float:
    """Share of pairs that an ordering of the numbers 1 to n has in the same order as the target; 0 for no ordering."""
    return best_of(_concordance, prediction, targets)


@cache
def _rouge_scorer() -> "RougeScorer":
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(ROUGE_TYPES), use_stemmer=False)


def _choice(text: str) -> str | None:
    found = re.search(r"\b[A-D]\b", text)
    return found and found[0]


def _percentage(text: str) -> float | None:
    found = re.search(r"(\d+\.?\d*)%", text, re.ASCII)
    return float(found[1]) if found else None


def _similarity(prediction: str, target: str) -> float:
    guessed, true = _percentage(prediction), _percentage(target)
    return 0.0 if guessed is None or true is None else 0.5 ** (abs(guessed - true) / 10)


def _numbers(text: str) -> list[str]:
    """The numbers of an ordering: everything but digits, commas and whitespace is passed over."""
    kept = re.sub(r"[^0-9\s,]", "", text).replace(",", " ")
    return [number.lstrip("0") for number in kept.split()]


def _concordance(prediction: str, target: str) -> float:
    guessed, true = _numbers(prediction), _numbers(target)
    if not true or sorted(guessed) != sorted(true) or len(set(true)) != len(true):
        return 0.0
    place = {number: order for order, number in enumerate(guessed)}
    pairs = [place[first] < place[second] for first, second in combinations(true, 2)]
    return sum(pairs) / len(pairs) if pairs else 1.0
