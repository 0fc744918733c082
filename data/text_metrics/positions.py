"""BLEU and ROUGE of what was generated at positions of documents."""

from collections.abc import Sequence
from typing import Any

Sample = dict[str, Any]
Summary = dict[str, Any]


def summarise_positions(samples: Sequence[Sample]) -> list[Summary]:
    """BLEU and ROUGE per position, ascending: `generation_scores` of the documents that did not fail there.

    The numbers of ROUGE depend a little on the order of documents, so give the samples in that of their index.
    """
    from data.text_metrics.scores import generation_scores  # imports `evaluate`, which takes seconds

    positions = sorted({sample["position"] for sample in samples})
    summaries = []
    for position in positions:
        here = [sample for sample in samples if sample["position"] == position]
        texts = [(sample["output"], sample["reference"]) for sample in here if sample["error"] is None]
        scores = generation_scores([output for output, _ in texts], [reference for _, reference in texts])
        counts = {"documents": len(here), "failed": len(here) - len(texts)}
        summaries.append({"position": position, **counts, **scores})
    return summaries
