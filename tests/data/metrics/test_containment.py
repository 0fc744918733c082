"""Scores of answers that must be found in an output."""

import pytest

from data.metrics.containment import first_number, string_match_all, string_match_part, words_found


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
