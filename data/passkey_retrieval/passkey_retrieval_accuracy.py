"""Accuracy of pass keys under the name that the published scripts import."""

from collections.abc import Sequence

from data.metrics.containment import first_number


def passkey_retrieval_accuracy(
    predictions: Sequence[str], references: Sequence[str], input_batch: object = None
) -> dict[str, float]:
    """{"accuracy"}: the share of outputs whose first whole number is the pass key.

    input_batch: published callers hand over the last example, which no score depends on.
    """
    scores = [first_number(prediction, [key]) for prediction, key in zip(predictions, references, strict=True)]
    return {"accuracy": sum(scores) / len(scores)}
