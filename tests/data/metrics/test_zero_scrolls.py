"""The metrics of ZeroSCROLLS by hand, ROUGE on the example that the package rouge-score documents and on its own."""

import pytest

from data.metrics.zero_scrolls import (
    choice_accuracy,
    concordance_index,
    exponential_similarity,
    rouge_geometric_mean,
)
from data.tasks.registry import TASKS
from utils.trials.summary import summarise_task

FOX, LOG = "The quick brown fox jumps over the lazy dog", "The quick brown dog jumps on the log."


def test_rouge():
    rouge1, rouge2, rouge_l = 12 / 17, 4 / 15, 10 / 17  # 6 words, 2 pairs and a subsequence of 5 out of 8 and 9 words
    expected = (rouge1 * rouge2 * rouge_l) ** (1 / 3)
    assert rouge_geometric_mean(LOG, [FOX]) == pytest.approx(expected)
    assert rouge_geometric_mean(LOG, ["nothing alike", FOX]) == pytest.approx(expected)
    assert rouge_geometric_mean("", [FOX]) == 0
    assert rouge_geometric_mean("jumping foxes run", ["jumps fox run"]) == 0, "words are not stemmed"


def test_rouge_of_a_corpus_is_the_geometric_mean_of_three_means():
    """The value of the benchmark's own evaluation."""
    outputs = ["exact match example", "hello there", "general kenobi"]
    references = [["exact match example"], ["hello", "hi there"], ["commander kenobi"]]
    task = TASKS["zero_scrolls/gov_report"]
    samples = [
        {
            "task": task.name,
            "score": task.metric(output, targets),
            "components": task.components(output, targets),
            "error": None,
            "length": 3,
        }
        for output, targets in zip(outputs, references)
    ]
    found = summarise_task(samples)
    assert found["score"] == pytest.approx(0.558136, abs=1e-6)
    assert found["standard_error"] > 0 and found["interval"] is None
    failed = {"task": task.name, "score": None, "error": "memory ran out", "length": None}
    assert summarise_task([*samples, failed]) == found | {"examples": 4, "failed": 1}


@pytest.mark.parametrize(
    "prediction, score",
    [("(C) because A", 1), ("The answer is C.", 1), ("A", 0), ("Cats", 0), ("c", 0), ("", 0)],
)
def test_choice(prediction, score):
    assert choice_accuracy(prediction, ["(C) Moss"]) == score


@pytest.mark.parametrize(
    "prediction, score",
    [("60%", 1), ("About 50% of 60%", 0.5), ("80.0%", 0.25), ("sixty", 0), ("60", 0)],
)
def test_exponential_similarity(prediction, score):
    assert exponential_similarity(prediction, ["60%"]) == pytest.approx(score)


@pytest.mark.parametrize(
    "prediction, score",
    [
        ("3, 1, 4, 2", 1),
        ("Summaries: 3 1 2 4.", 5 / 6),
        ("2, 4, 1, 3", 0),
        ("1, 2, 3, 4", 3 / 6),
        ("3, 1, 4", 0),
        ("3, 1, 4, 4", 0),
        ("3, 1, 4, 2, 5", 0),
        ("", 0),
    ],
)
def test_concordance(prediction, score):
    assert concordance_index(prediction, ["3, 1, 4, 2"]) == pytest.approx(score)
