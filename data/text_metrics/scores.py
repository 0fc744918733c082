"""All generation metrics of a set of texts, each with its standard error."""

from collections.abc import Sequence

from data.text_metrics import METRICS, UNSEEN
from data.text_metrics.bleu import Bleu, bleu_counts, corpus_bleu
from data.text_metrics.rouge import Rouge, is_unseen
from utils.bootstrap import standard_error, weighted_mean


def generation_scores(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float | None]:
    """Scores of texts: NAME (0 to 1) for NAME in METRICS, and NAME_standard_error (by bootstrap; None for one text).

    None for each of them where there is no text. UNSEEN besides: how many references ROUGE sees less than half of.
    Empty predictions count as ".", as published: BLEU would take them for texts that are not there.
    """
    if not predictions:
        return {name: None for metric in METRICS for name in (metric, f"{metric}_standard_error")} | {UNSEEN: 0}
    predictions = [as_scored(prediction) for prediction in predictions]
    texts = {"predictions": predictions, "references": list(references)}
    scores = {"bleu": Bleu().compute(**texts)["bleu"], **Rouge().compute(**texts)}
    counts = bleu_counts(predictions, references)
    errors = {"bleu": standard_error(counts, lambda sums: corpus_bleu(sums)["bleu"])}
    for metric, values in Rouge().compute(**texts, use_aggregator=False).items():
        errors[metric] = weighted_mean(values)[1]
    unseen = {UNSEEN: sum(map(is_unseen, references))}
    named = ((metric, f"{metric}_standard_error") for metric in METRICS)
    return {
        name: value for score, error in named for name, value in ((score, scores[score]), (error, errors[score]))
    } | unseen


def as_scored(prediction: str) -> str:
    """The text that a metric is given for a prediction."""
    return prediction or "."
