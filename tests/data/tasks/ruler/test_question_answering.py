"""RULER's question answering, on files in the formats of SQuAD 2.0 and HotpotQA."""

import json
import re

import pytest

from data.tasks.prompt import PromptEncoder
from data.tasks.registry import TASKS
from utils.errors import UserError

WORDS = "wheat barley rye oats maize rice millet sorghum".split()


def paragraph(article: int, number: int) -> str:
    place = f"field{article}x{number}"
    return f"Article {article} paragraph {number} is about {WORDS[number]} from {place}. " + "It grows. " * 9


SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": f"T{article}",
            "paragraphs": [
                {
                    "context": paragraph(article, number),
                    "qas": [
                        {
                            "id": f"q{article}-{number}",
                            "question": f"Where is it from, {article} {number}?",
                            "answers": [{"text": f"field{article}x{number}", "answer_start": 0}] * 2,
                            "is_impossible": False,
                        },
                        {"id": "no", "question": "What?", "answers": [], "is_impossible": True},
                    ],
                }
                for number in range(4)
            ],
        }
        for article in range(10)
    ],
}
HOTPOT = [
    {
        "_id": f"h{number}",
        "question": f"Which grain, {number}?",
        "answer": f"grain{number}",
        "context": [[f"Title {number} {part}", [f"Part {part}", f" of grain{number}."]] for part in range(3)],
    }
    for number in range(12)
]


@pytest.fixture
def files(folder):
    (folder / "dev-v2.0.json").write_text(json.dumps(SQUAD))
    (folder / "hotpotqa.json").write_text(json.dumps(HOTPOT))
    return folder


def documents(example) -> list[str]:
    return re.split(r"(?:^|\n\n)Document \d+:\n", example.prompt.context)[1:]


def test_squad(open_task, files, tokenizer):
    examples = open_task("ruler/qa_1", dataset_dir=files, length=3500)
    assert len(examples) == 40, "the questions that have an answer"
    example = examples[5]
    assert example.prompt.tail.endswith("\n\nQuestion: Where is it from, 1 1?")
    assert example.prompt.text().endswith("1 1? Answer:")
    assert example.targets == ["field1x1", "field1x1"]
    texts = documents(example)
    assert len(texts) == len(set(texts)) >= 5
    assert {paragraph(1, number) for number in range(4)} <= set(texts), "the rest of the article comes first"
    assert example.length == PromptEncoder(tokenizer).count(example.prompt)
    room = 3500 - 32  # the answer's
    assert room - 250 < example.length <= room
    assert TASKS["ruler/qa_1"].metric("It is from Field1x1.", example.targets) == 1


def test_documents_are_numbered_and_shuffled(open_task, files):
    examples = open_task("ruler/qa_1", dataset_dir=files, length=3500)
    numbers = re.findall(r"Document (\d+):", examples[0].prompt.context)
    assert list(map(int, numbers)) == list(range(1, len(numbers) + 1))
    places = {documents(examples[index]).index(paragraph(index // 4, index % 4)) for index in range(12)}
    assert len(places) > 3


def test_hotpotqa(open_task, files):
    example = open_task("ruler/qa_2", dataset_dir=files, length=1000)[3]
    assert example.targets == ["grain3"]
    texts = documents(example)
    assert {f"Title 3 {part}\nPart {part} of grain3." for part in range(3)} <= set(texts)
    assert len(texts) > 6


def test_all_documents_and_no_more(open_task, files):
    example = open_task("ruler/qa_2", dataset_dir=files, length=100_000)[0]
    assert len(documents(example)) == 36
    assert example.length < 5000


def test_deterministic(open_task, files):
    flags = {"dataset_dir": files, "length": 2500}
    first = open_task("ruler/qa_1", **flags)[3]
    assert open_task("ruler/qa_1", num_samples=4, **flags)[3] == first
    assert open_task("ruler/qa_1", seed=1, **flags)[3].prompt != first.prompt
    assert len(open_task("ruler/qa_1", num_samples=4, **flags)) == 4


def test_missing_file(open_task, folder):
    with pytest.raises(UserError, match="--dataset ruler/qa_1 needs --dataset_dir, the folder with dev-v2.0.json"):
        open_task("ruler/qa_1", length=3000)
    with pytest.raises(UserError, match="holds no hotpot_dev_distractor_v1.json or hotpotqa.json, which"):
        open_task("ruler/qa_2", dataset_dir=folder, length=3000)


@pytest.mark.parametrize(
    "task, file, value, message",
    [
        ("qa_1", "squad.json", [], "must be an object with the field 'data', not a list"),
        ("qa_1", "squad.json", {"data": [{}]}, ", article 1 has no field 'paragraphs'; it has: none"),
        ("qa_1", "squad.json", {"data": []}, " holds no question that has an answer"),
        (
            "qa_1",
            "squad.json",
            {"data": [{"paragraphs": [{"context": "x", "qas": [{"id": "7"}]}]}]},
            ", article 1, question 7 has no field 'is_impossible'; it has: id",
        ),
        ("qa_2", "hotpotqa.json", {}, " must be a list of questions, not an object"),
        ("qa_2", "hotpotqa.json", [{"context": [["t"]]}], ", question 1, field 'context', must hold pairs of a title"),
        ("qa_2", "hotpotqa.json", [{"context": [], "answer": "x"}], ", question 1 has no field 'question'"),
        ("qa_2", "hotpotqa.json", [{"context": [["t", "s"]]}], ", question 1, field 'sentences', must be a list"),
    ],
)
def test_wrong_fields(open_task, folder, task, file, value, message):
    (folder / file).write_text(json.dumps(value))
    with pytest.raises(UserError) as error:
        open_task(f"ruler/{task}", dataset_dir=folder, length=3000)
    assert str(error.value).startswith(f"{folder / file}") and message in str(error.value)
