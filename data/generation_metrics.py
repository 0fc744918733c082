"""BLEU and ROUGE under the name that the published scripts import; the metrics themselves are in data/text_metrics/."""

from collections.abc import Mapping, Sequence
from typing import Any


def generation_overall_metric(
    all_results: Sequence[Mapping[str, Any]], evaluate_positions: Sequence[int]
) -> dict[int, dict[str, Any]]:
    """Per position "rouge" and "bleu", as `evaluate` gives them; {} where no text reaches it.

    all_results: per document {"generation_results": {position: {"generation", "target"}}}.
    """
    from data.text_metrics.bleu import Bleu  # these import `evaluate`, which takes seconds
    from data.text_metrics.rouge import Rouge
    from data.text_metrics.scores import as_scored

    scores: dict[int, dict[str, Any]] = {}
    for position in evaluate_positions:
        found = [result["generation_results"].get(position) for result in all_results]
        pairs = [(as_scored(one["generation"]), one["target"]) for one in found if one is not None]
        predictions, references = [list(texts) for texts in zip(*pairs)] or ([], [])
        texts = {"predictions": predictions, "references": references}
        scores[position] = {"rouge": Rouge().compute(**texts), "bleu": Bleu().compute(**texts)} if pairs else {}
    return scores
