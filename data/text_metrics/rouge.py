"""ROUGE (Lin, 2004), as the `evaluate` library's `rouge` computes it: a thin layer over `rouge-score`."""

from collections.abc import Sequence

import evaluate
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.scoring import BootstrapAggregator

from data.text_metrics import ROUGE_TYPES
from data.text_metrics.offline import TEXTS, OfflineMetric


def is_unseen(text: str) -> bool:
    """Whether ROUGE's tokenizer drops most letters of a text: it knows a-z and digits, and of Chinese none at all."""
    letters = [character for character in text.lower() if character.isalnum()]
    return 2 * sum(not character.isascii() for character in letters) > len(letters)


class Rouge(OfflineMetric):
    """`Rouge().compute(predictions=[...], references=[...])`, of texts or lists of texts, as `evaluate.load("rouge")`.

    One number per type: the median of the mean F-measures of 1000 bootstrap samples, so it depends a little on the
    seed, as the library's does. With use_aggregator=False a list per type: the F-measure of each text, the highest
    where there are several references.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Overlap of n-grams (rouge1, rouge2) and longest common subsequences, of the text (rougeL) and "
            "of its lines (rougeLsum), as F-measures.",
            citation="Lin, 2004: ROUGE: A Package for Automatic Evaluation of Summaries",
            features=TEXTS,
            reference_urls=["https://huggingface.co/spaces/evaluate-metric/rouge"],
        )

    def _compute(
        self,
        predictions: list[str],
        references: list[str] | list[list[str]],
        rouge_types: Sequence[str] = ROUGE_TYPES,
        use_aggregator: bool = True,
        use_stemmer: bool = False,
    ) -> dict[str, float] | dict[str, list[float]]:
        scorer = RougeScorer(list(rouge_types), use_stemmer=use_stemmer)
        scores = [
            scorer.score(reference, prediction)
            if isinstance(reference, str)
            else scorer.score_multi(reference, prediction)
            for prediction, reference in zip(predictions, references)
        ]
        if not use_aggregator:
            return {kind: [float(score[kind].fmeasure) for score in scores] for kind in rouge_types}
        aggregator = BootstrapAggregator()
        for score in scores:
            aggregator.add_scores(score)
        return {kind: float(interval.mid.fmeasure) for kind, interval in aggregator.aggregate().items()}
