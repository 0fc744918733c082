"""Qasper's published file, in miniature."""

import json
from copy import deepcopy
from pathlib import Path

import datasets
import pytest

from data.tasks.prompt import PromptEncoder
from data.tasks.registry import TASKS
from data.tasks.task import TaskRequest, open_examples
from utils.errors import UserError

NO_ANSWER = {"unanswerable": False, "extractive_spans": [], "yes_no": None, "free_form_answer": ""}
ANSWERS = [
    ({"extractive_spans": ["BERT", "the second span"]}, "BERT, the second span"),
    ({"free_form_answer": "A larger corpus."}, "A larger corpus."),
    ({"yes_no": True}, "yes"),
    ({"yes_no": False}, "no"),
    ({"unanswerable": True}, "unanswerable"),
]


def question(number: int, *answers: dict) -> dict:
    return {
        "question": f"Which one, {number}?",
        "question_id": f"q{number}",
        "answers": [{"answer": {**NO_ANSWER, **answer, "evidence": []}, "worker_id": "w"} for answer in answers],
    }


PAPERS = {
    "1909.00694": {
        "title": "On it",
        "full_text": [
            {"section_name": "Introduction", "paragraphs": ["First.", "Second."]},
            {"section_name": None, "paragraphs": ["Third.", ""]},
        ],
        "qas": [question(1, ANSWERS[0][0], ANSWERS[1][0]), question(2), question(3, ANSWERS[2][0])],
    },
    "2000.00001": {"title": "Empty", "full_text": [], "qas": [question(4, ANSWERS[3][0])]},
    "2000.00002": {
        "title": "Off it",
        "full_text": [{"section_name": "Only", "paragraphs": ["Text."]}],
        "qas": [question(5, ANSWERS[4][0], ANSWERS[3][0])],
    },
}


def write(folder: Path, papers: object, name: str = "qasper-test-v0.3.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(papers))
    return path


def open_qasper(folder: Path | None, name: str = "qasper", **flags):
    return open_examples(TASKS[name], TaskRequest(name, dataset_dir=folder, **flags))


def test_every_question_with_an_answer_about_papers_without_a_text_too(folder):
    write(folder, PAPERS)
    examples = open_qasper(folder)
    assert [example.id for example in examples] == ["1909.00694:q1", "1909.00694:q3", "2000.00001:q4", "2000.00002:q5"]
    assert [example.targets for example in examples] == [
        ["BERT, the second span", "A larger corpus."],
        ["yes"],
        ["no"],
        ["unanswerable", "no"],
    ]
    assert examples[2].prompt.context == ""
    assert examples[0].prompt.context == "Introduction First. Second. Third."
    assert "Question: Which one, 1?" in examples[0].prompt.tail
    assert open_qasper(folder)[3] == examples[3]


def test_plain_and_dialogue(folder, tokenizer):
    write(folder, PAPERS)
    texts = {}
    for name in ("qasper", "qasper_plain"):
        encoder = PromptEncoder(tokenizer, structured=TASKS[name].structured)
        texts[name] = encoder.render(open_qasper(folder, name)[3].prompt)
    plain = (
        "You are a helpful, concise and honest assistant. You are given a scientific article and a question. Answer "
        "the question as concisely as you can, using a single phrase or sentence if possible. If the question cannot "
        'be answered based on the information in the article, write "unanswerable". If the question is a yes/no '
        'question, answer "yes", "no", or "unanswerable". Article: Only Text. Question: Which one, 5? Please highlight '
        "your final answer with a single pair of <Answer> </Answer> tags. Do not provide any explanation. <Answer>"
    )
    assert texts["qasper_plain"] == plain
    assert texts["qasper"].startswith("[INST] <<SYS>> \n You are a helpful, concise and honest assistant. <</SYS>> \n ")
    assert texts["qasper"].endswith("tags. Do not provide any explanation. [/INST] \n <Answer>")


@pytest.mark.parametrize(
    "output, score",
    [
        (" yes", 1),
        ("Yes.</Answer> because it says no", 1),
        ("The reply: <Answer>yes</Answer>", 1),
        ("yes it is", 1 / 2),
        ("no", 0),
        ("yes\nThe paper says no", 1),
        ("yes\n\nQuestion: What", 1),
        ("\nyes", 0),
        ("yes<Answer>no", 0),
    ],
)
@pytest.mark.parametrize("name", ["qasper", "qasper_plain", "narrative_qa", "narrative_qa_plain"])
def test_metric(name, output, score):
    assert TASKS[name].metric(output, ["yes", "perhaps"]) == pytest.approx(score)
    assert TASKS[name].stop == ("</Answer>", "\n")


def test_split_and_latest_version(folder):
    write(folder, PAPERS)
    write(folder, {"9": PAPERS["2000.00002"]}, "qasper-dev-v0.3.json")
    write(folder, {}, "qasper-dev-v0.2.json")
    assert [example.id for example in open_qasper(folder, split="validation")] == ["9:q5"]
    with pytest.raises(UserError, match="holds no qasper-train-v.*json for --split train"):
        open_qasper(folder, split="train")
    with pytest.raises(UserError, match="--split all is none of --dataset qasper's: train, validation, dev, test"):
        open_qasper(folder, split="all")


def changed(path: str, value: object) -> dict:
    """PAPERS with another value at a path; Ellipsis takes the field away."""
    papers = deepcopy(PAPERS)
    *keys, last = [int(key) if key.isdigit() else key for key in path.split("/")]
    target = papers["2000.00002"]
    for key in keys:
        target = target[key]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return papers


PAPER = "paper 2000.00002"


@pytest.mark.parametrize(
    "path, value, message",
    [
        ("full_text", ..., f"{PAPER} has no field 'full_text'; it has: title, qas"),
        ("full_text", "all", f"{PAPER}, field 'full_text', must be a list, not a string"),
        ("full_text/0", "all", f"{PAPER}, section 1 must be an object with the field 'section_name', not a string"),
        ("full_text/0/paragraphs/0", 3, f"{PAPER}, section 1, field 'paragraphs', item 1, must be a string of text"),
        ("qas/0/question", None, f"{PAPER}, question 1, field 'question', must be a string of text, not null"),
        ("qas/0/answers/1", {}, f"{PAPER}, question 1, answer 2 has no field 'answer'; it has: none"),
        ("qas/0/answers/1/answer", NO_ANSWER, f"{PAPER}, question 1, answer 2 has neither spans nor a free form"),
        (
            "qas/0/answers/1/answer/yes_no",
            "no",
            f"{PAPER}, question 1, answer 2, field 'yes_no', must be true",
        ),
    ],
)
def test_wrong_fields(folder, path, value, message):
    file = write(folder, changed(path, value))
    with pytest.raises(UserError) as error:
        open_qasper(folder)
    assert str(error.value).startswith(f"{file}, {message}")


def test_missing_and_empty_files(folder):
    with pytest.raises(
        UserError, match=r"cannot be loaded from it \(download qasper-test-v.* give its folder as --data"
    ):
        open_qasper(None)
    with pytest.raises(UserError, match="--dataset_dir .* holds no qasper-test-v"):
        open_qasper(folder)
    file = write(folder, {"2000.00001": {**PAPERS["2000.00001"], "qas": [question(4)]}})
    with pytest.raises(UserError, match=f"{file} has no question with an answer"):
        open_qasper(folder)
    write(folder, [])
    with pytest.raises(UserError, match="must be an object of papers, not a list"):
        open_qasper(folder)
    file.write_text("{")
    with pytest.raises(UserError, match=f"{file} is malformed JSON"):
        open_qasper(folder)


def columns(objects: list[dict]) -> dict[str, list]:
    return {name: [value[name] for value in objects] for name in objects[0]} if objects else {}


def on_the_hub(paper_id: str, paper: dict) -> dict:
    questions = [{**asked, "answers": columns(asked["answers"])} for asked in paper["qas"]]
    empty = {"section_name": [], "paragraphs": []}
    return {"id": paper_id, "full_text": columns(paper["full_text"]) or empty, "qas": columns(questions)}


def test_without_a_folder_the_hubs_papers_are_the_files_ones(folder, monkeypatch):
    """Two of the three papers: in a table every question has an answer."""
    papers = {name: PAPERS[name] for name in ("2000.00001", "2000.00002")}
    asked = []

    def load_dataset(*words, **options):
        asked.append((*words, options))
        return datasets.Dataset.from_list([on_the_hub(*paper) for paper in papers.items()])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    write(folder, papers)
    for split in ("test", "validation"):
        assert list(open_qasper(None, split=split)) == list(open_qasper(folder))
    revision = "refs/convert/parquet"
    assert asked[1] == ("allenai/qasper", {"split": "validation", "revision": revision}) and len(asked) == 2
