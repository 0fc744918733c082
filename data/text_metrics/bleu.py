"""BLEU (Papineni et al., 2002), defined as the `evaluate` library's `bleu` defines it.

That one is the definition of TensorFlow's NMT tutorial on texts cut by mteval's tokenizer 13a: of several references
the shortest counts as the reference length, and one order of n-grams without a match makes BLEU 0. sacreBLEU, whose
tokenizer and n-grams are used here, takes the reference closest in length instead, so its own score is not used.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import evaluate
import numpy as np
from sacrebleu.metrics.helpers import extract_all_word_ngrams
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from data.text_metrics.offline import TEXTS, OfflineMetric

MAX_ORDER = 4
_tokenize = Tokenizer13a()


class Bleu(OfflineMetric):
    """`Bleu().compute(predictions=[...], references=[...])`, of texts or lists of texts, as `evaluate.load("bleu")`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Precision of n-grams up to four, over the whole corpus, with a penalty for brevity.",
            citation="Papineni et al., 2002: BLEU: a Method for Automatic Evaluation of Machine Translation",
            features=TEXTS,
            reference_urls=["https://huggingface.co/spaces/evaluate-metric/bleu"],
        )

    def _compute(
        self, predictions: list[str], references: list[str] | list[list[str]], max_order: int = MAX_ORDER
    ) -> dict[str, Any]:
        return corpus_bleu(bleu_counts(predictions, references, max_order).sum(axis=0))


def bleu_counts(
    predictions: Sequence[str], references: Sequence[str] | Sequence[Sequence[str]], max_order: int = MAX_ORDER
) -> np.ndarray:
    """Counts that BLEU sums over the texts: int64 [texts, 2 + 2 * max_order].

    Columns: tokens of the prediction and of its shortest reference, then for each order the n-grams of the prediction
    that a reference has too (each as often as one reference has it), then for each order all n-grams of the prediction.
    """
    lists = [[reference] if isinstance(reference, str) else reference for reference in references]
    return np.array([_counts(*pair, max_order) for pair in zip(predictions, lists)], dtype=np.int64)


def corpus_bleu(counts: np.ndarray) -> dict[str, Any]:
    """BLEU from column sums of `bleu_counts`, int64 [2 + 2 * max_order]; lengths are in tokens."""
    length, reference_length, *rest = counts.tolist()
    max_order = len(rest) // 2
    precisions = [hits / grams if grams else 0.0 for hits, grams in zip(rest[:max_order], rest[max_order:])]
    ratio = length / reference_length if reference_length else 0.0
    penalty = 0.0 if ratio == 0 else 1.0 if ratio > 1 else math.exp(1 - 1 / ratio)
    geometric_mean = math.exp(sum(math.log(p) / max_order for p in precisions)) if min(precisions) > 0 else 0.0
    return {
        "bleu": geometric_mean * penalty,
        "precisions": precisions,
        "brevity_penalty": penalty,
        "length_ratio": ratio,
        "translation_length": length,
        "reference_length": reference_length,
    }


def _counts(prediction: str, references: Sequence[str], max_order: int) -> list[int]:
    ngrams, length = extract_all_word_ngrams(_tokenize(prediction), 1, max_order)
    known, lengths = zip(*(extract_all_word_ngrams(_tokenize(text), 1, max_order) for text in references))
    most: Counter = Counter()
    for reference in known:
        most |= reference
    hits = ngrams & most
    return [length, min(lengths), *_per_order(hits, max_order), *_per_order(ngrams, max_order)]


def _per_order(ngrams: Counter, max_order: int) -> list[int]:
    totals = [0] * max_order
    for ngram, count in ngrams.items():
        totals[len(ngram) - 1] += count
    return totals
