"""F1 and exact match against SQuAD's definition, by hand."""

import pytest

from data.metrics.f1 import ascii_f1, exact_match, f1, normalize


@pytest.mark.parametrize(
    "text, normal",
    [
        ("The  Cat, a dog & an OWL!", "cat dog owl"),
        ("theatre another", "theatre another"),
        ("U.S.A. twenty-one", "usa twentyone"),
        ("the", ""),
    ],
)
def test_normalize(text, normal):
    assert normalize(text) == normal


@pytest.mark.parametrize(
    "prediction, targets, score",
    [
        ("The Normans.", ["Normans"], 1),
        ("in the 10th and 11th centuries", ["10th and 11th centuries"], 2 * 1 * (4 / 5) / (4 / 5 + 1)),
        ("red red blue", ["red green"], 2 / 5),  # the second "red" is shared with nothing
        ("Rolf", ["William", "Rollo, Rolf"], 2 / 3),
        ("nothing", ["something"], 0),
        ("", ["answer"], 0),
        ("the", ["the"], 0),  # as the published script has it: no word is left to share
    ],
)
def test_f1(prediction, targets, score):
    assert f1(prediction, targets) == pytest.approx(score)


def test_f1_in_ascii():
    """Accents and typographic signs go, those that are made of ASCII's punctuation too late to be removed."""
    assert ascii_f1("Café Zoë", ["other", "cafe zoe"]) == 1
    assert f1("Café Zoë", ["cafe zoe"]) == 0
    assert ascii_f1("don’t", ["don't"]) == 0, "the sign is made ASCII after punctuation is removed, as published"


def test_exact_match():
    assert exact_match(" the  Answer ", ["other", "answer!"]) == 1
    assert exact_match("answers", ["answer"]) == 0
