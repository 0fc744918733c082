"""Scores of answers that must be found in an output."""

import pytest

from data.metrics.containment import first_number, string_match_all, string_match_part, words_found
from data.passkey_retrieval.passkey_retrieval_accuracy import passkey_retrieval_accuracy
from data.tasks.registry import TASKS


def test_string_match_all():
    assert string_match_all("It is Alpha\x07 and BETA.", ["alpha", "beta", "gamma", "ta"]) == 3 / 4
    assert string_match_all("", ["alpha"]) == 0


def test_string_match_part():
    assert string_match_part("in rouen, France", ["Paris", "France"]) == 1
    assert string_match_part("in Rouen", ["Paris", "France"]) == 0


@pytest.mark.parametrize(
    "prediction, score",
    [("1234567 and 76.", 1), ("12345678 and 76", 1 / 2), ("x1234567, 760", 0), ("-1234567-76-", 1)],
)
def test_words_found(prediction, score):
    assert words_found(prediction, ["1234567", "76"]) == score


@pytest.mark.parametrize(
    "prediction, score",
    [
        (" 4321. Remember it.", 1),
        ("is 004321", 1),
        ("43 or 4321", 0),
        ("43210", 0),
        ("none", 0),
        ("9" * 5000, 0),
    ],
)
def test_first_number(prediction, score):
    assert first_number(prediction, ["4321"]) == score


@pytest.mark.parametrize(
    "output, score", [("4321. Remember it.", 1), ("4321\n77", 1), ("\n4321", 0), ("no\n4321", 0), ("77\n4321", 0)]
)
def test_a_pass_key_is_in_the_first_line(output, score):
    """Where the published script ends a generation."""
    assert TASKS["passkey_retrieval"].metric(output, ["4321"]) == score
    assert TASKS["passkey_retrieval"].stop == ("\n",)


def test_accuracy_under_its_published_name():
    assert passkey_retrieval_accuracy(["is 4321.", "12 4321", "none"], ["4321", "4321", "7"]) == {
        "accuracy": pytest.approx(1 / 3)
    }
