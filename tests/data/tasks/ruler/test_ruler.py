"""RULER's generated tasks against the published definitions, and against what RULER's own scripts make."""

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from unittest.mock import Mock, patch

import pytest
from transformers import AutoTokenizer

from data.tasks.prompt import PromptEncoder
from data.tasks.registry import TASKS
from data.tasks.ruler import aggregation
from data.tasks.task import TaskRequest, open_examples
from data.tasks.words import all_words, draw, word_list
from utils.errors import UserError

NEEDLE = r"One of the special magic (numbers|uuids) for ([\w-]+) is: ([\w-]+)\."
NUMBER, UUID = r"[1-9]\d{6}", r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
SAMPLE = Path(__file__).resolve().parents[4] / "sample" / "SmolLM2-135M-Instruct"
NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
LARGEST_UNIT = {"fwe": 80}
WORD = r"[a-z]+-[a-z]+"


@pytest.mark.parametrize(
    "variant, needles, keys, asked, key, value",
    [
        ("single_1", 1, 1, 1, WORD, NUMBER),
        ("single_2", 1, 1, 1, WORD, NUMBER),
        ("single_3", 1, 1, 1, WORD, UUID),
        ("multikey_1", 4, 4, 1, WORD, NUMBER),
        ("multikey_2", None, None, 1, WORD, NUMBER),
        ("multikey_3", None, None, 1, UUID, UUID),
        ("multivalue", 4, 1, 4, WORD, NUMBER),
        ("multiquery", 4, 4, 4, WORD, NUMBER),
    ],
)
def test_needles(open_task, variant, needles, keys, asked, key, value):
    for example in open_task(f"ruler/niah_{variant}", length=5000):
        found = re.findall(NEEDLE, example.prompt.context)
        assert all(re.fullmatch(key, name) and re.fullmatch(value, said) for _, name, said in found)
        if needles is None:
            assert not re.sub(NEEDLE, "", example.prompt.context).strip(), "the haystack is made of needles"
            assert len(found) > 20
        else:
            assert (len(found), len({name for _, name, _ in found})) == (needles, keys)
        queried = re.search(r"for (.*) mentioned", example.prompt.tail)[1]
        expected = {said for _, name, said in found if name in queried}
        assert set(example.targets) == expected
        assert len(example.targets) == asked
        assert (example.depth is None) == (asked > 1)


def test_wording_of_one_and_of_several(open_task):
    one = open_task("ruler/niah_single_3", length=2000)[0].prompt
    assert one.head.startswith("A special magic uuid is hidden within the following text. Make sure to memorize it. ")
    assert re.fullmatch(r"\nWhat is the special magic uuid for \S+ mentioned in the provided text\?", one.tail)
    several = open_task("ruler/niah_multivalue", length=2000)[0].prompt
    assert several.head.startswith("Some special magic numbers are hidden within the following text. ")
    assert re.fullmatch(r"\nWhat are all the special magic numbers for \S+ mentioned in the .* text\?", several.tail)
    assert re.fullmatch(r" The special magic numbers for \S+ mentioned in the provided text are", several.answer)


def test_variables_form_a_chain(open_task):
    for example in open_task("ruler/vt", length=4000):
        value = re.search(r"assigned the value (\d{5}) in", example.prompt.tail)[1]
        assignments = re.findall(r"^VAR (\w+) = (.*?) ?$", example.prompt.context, re.MULTILINE)
        assert [name for name, _ in assignments] == example.targets
        assert [source for _, source in assignments] == [value, *(f"VAR {name}" for name in example.targets[:-1])]
        assert len(example.targets) == 5
        assert all(re.fullmatch("[A-Z]{5}", name) for name in example.targets)
        shown = re.search(r"they are:  ((?:[A-Z]{3} ?){5})\n\nMemorize", example.prompt.head)[1].split()
        assert example.prompt.answer == (
            " Answer: According to the chain(s) of variable assignment in the text above, 5 variables are assgined the "
            f"value {value}, they are: "
        )
        assert re.findall(r"^VAR (\w+) =", example.prompt.head, re.MULTILINE) == shown


@pytest.mark.parametrize("length, common, uncommon", [(3000, 6, 1), (12_000, 30, 3)])
def test_common_words(open_task, length, common, uncommon):
    for example in open_task("ruler/cwe", length=length):
        numbers, words = zip(*re.findall(r"(\d+)\. (\w+)", example.prompt.context))
        assert list(map(int, numbers)) == list(range(1, len(words) + 1))
        counts = Counter(words)
        assert {word for word, count in counts.items() if count == common} == set(example.targets)
        assert {count for word, count in counts.items() if word not in example.targets} == {uncommon}
        assert len(example.targets) == 10
        shown = re.search(r"in the list are:(1\. .*)\nBelow", example.prompt.head)[1]
        assert len(re.findall(r"\d+\. \w+", shown)) == 10


def test_frequent_words(open_task):
    for example in open_task("ruler/fwe", length=8000):
        words = Counter(re.search(r"coded words\. (.*)", example.prompt.head + example.prompt.context)[1].split())
        ranked = words.most_common()
        assert [word for word, _ in ranked[:4]] == ["...", *example.targets]
        assert all(one > two for (_, one), (_, two) in pairwise(ranked[:5])), "no ties among the answers"
        assert ranked[1][1] == pytest.approx(ranked[0][1] / 4, abs=1)
        assert ranked[2][1] == pytest.approx(ranked[0][1] / 9, abs=1)
        assert all(re.fullmatch("[a-z]{6}", word) for word, _ in ranked[1:])


ROOMS = {"niah_single_1": 3968, "niah_multiquery": 3968, "fwe": 4046, "vt": 4066}


@pytest.mark.parametrize("name, most", ROOMS.items())
def test_the_length_counts_the_answer_and_no_beginning_token(open_task, name, most):
    """The prompts of RULER's own scripts at 4,096."""
    plain = list(open_task(f"ruler/{name}", length=4096))
    assert all(most - LARGEST_UNIT.get(name, 26) < example.length <= most for example in plain)
    begun = list(open_task(f"ruler/{name}", length=4096, begun=True))
    assert [example.prompt for example in begun] == [example.prompt for example in plain]
    assert [example.length for example in begun] == [example.length + 1 for example in plain]


def test_the_words_of_fwe_are_drawn_for_the_prompt(open_task):
    """(4096 - 50) // 50 = 80 of them, the dots included."""
    draft = Mock(side_effect=aggregation.frequent_draft)
    with patch.object(aggregation, "frequent_draft", draft):
        open_task("ruler/fwe", length=4096)[0]
    assert len(draft.call_args.args[1]) == 80


@pytest.mark.parametrize("length, most", [(4095, 6), (4096, 30)])
def test_common_words_are_repeated_by_the_length_that_is_asked_for(length, most):
    """From 4,096 on, which leaves 3,976 tokens to a prompt; a token is a word here."""
    task = TASKS["ruler/cwe"]
    request = TaskRequest(task.name, count=lambda prompt: len(prompt.text().split()), length=length)
    example = open_examples(task, request)[0]
    words = re.findall(r"\d+\. (\w+)", example.prompt.context)
    assert Counter(words).most_common(1)[0][1] == most
    assert length - 120 - 10 < example.length <= length - 120


def test_the_solved_example_has_the_rounds_that_fit_500_tokens(open_task, tokenizer):
    example = open_task("ruler/vt", length=4096)[0].prompt.head.partition("they are: ")[0] + "they are: "
    assert len(tokenizer(example)["input_ids"]) <= 500 < len(tokenizer(f"{example}{NOISE}\n")["input_ids"])


@pytest.mark.skipif(not SAMPLE.exists(), reason="the sample model is not prepared")
def test_the_solved_example_with_the_sample_models_tokenizer():
    """14 rounds, as RULER's own script has with this tokenizer."""
    encoder = PromptEncoder(AutoTokenizer.from_pretrained(SAMPLE))
    task = TASKS["ruler/vt"]
    example = open_examples(task, TaskRequest(task.name, **encoder.counts(), length=4096))[0]
    assert example.prompt.head.count("Here we go.") == 14


def test_the_published_essays(open_task, tmp_path):
    path = tmp_path / "PaulGrahamEssays.json"
    path.write_text(json.dumps({"text": "One essay.\n\nAnother\tessay. "}))
    context = open_task("ruler/niah_single_2", length=1000, haystack=str(path))[0].prompt.context
    assert "One essay. Another essay. One essay. Another essay." in context
    path.write_text(json.dumps({"essays": []}))
    with pytest.raises(UserError, match="PaulGrahamEssays.json has no field 'text'; it has: essays"):
        open_task("ruler/niah_single_2", length=1000, haystack=str(path))


def test_published_answer_lengths():
    lengths = {
        name: TASKS[f"ruler/{name}"].max_generation_length for name in ("niah_single_1", "vt", "cwe", "fwe", "qa_1")
    }
    assert lengths == {"niah_single_1": 128, "vt": 30, "cwe": 120, "fwe": 50, "qa_1": 32}


def test_words():
    assert len(all_words()) > 8000
    assert all(word.isalpha() and word == word.lower() for word in all_words())
    assert "truck" in word_list("noun")


def test_drawn_values_are_different_and_not_taken():
    class Repeating:
        """Draws 1000000, 1000000, 1000001, 1000001, ..."""

        calls = 0

        def randint(self, low, high):
            self.calls += 1
            return low + (self.calls - 1) // 2

    assert draw("numbers", Repeating(), 2, frozenset(["1000001"])) == ["1000000", "1000002"]


def test_missing_word_lists(monkeypatch):
    monkeypatch.setattr("data.tasks.words.PACKAGE", "no_such_package")
    word_list.cache_clear()
    with pytest.raises(UserError, match="needs the word lists of the package no_such_package"):
        word_list("noun")
