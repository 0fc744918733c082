"""A miniature copy of NarrativeQA's repository."""

import csv
from pathlib import Path

import pytest

from data.tasks.registry import TASKS
from data.tasks.task import TaskRequest, open_examples
from utils.errors import UserError

DOCUMENT_COLUMNS = ["document_id", "set", "kind", "story_url", "story_file_size", "wiki_url", "wiki_title"]
QUESTION_COLUMNS = ["document_id", "set", "question", "answer1", "answer2", "question_tokenized"]
QUESTIONS = [
    ["a", "test", "Who, then? ", "Ann.", "Ann Lee", "Who , then ?"],
    ["b", "train", "What?", "A thing", "A thing", "What ?"],
    ["lost", "test", "Where?", "There", "Here", "Where ?"],
    ["c", "test", 'Is it "so"?', "Yes", "Yes", ""],
    ["a", "test", "Why?", "Because,\nof it", "So", "Why ?"],
]


def write_table(path: Path, columns: list[str], rows: list[list[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])


@pytest.fixture
def repository(folder):
    documents = [[name, split, "gutenberg", "u", "9", "u", "t"] for name, split, *_ in QUESTIONS[:4]]
    write_table(folder / "documents.csv", DOCUMENT_COLUMNS, documents)
    write_table(folder / "qaps.csv", QUESTION_COLUMNS, QUESTIONS)
    summaries = [[name, "test", f" Summary of {name}.\n", ""] for name in ("a", "lost")]
    summary_columns = ["document_id", "set", "summary", "summary_tokenized"]
    write_table(folder / "third_party" / "wikipedia" / "summaries.csv", summary_columns, summaries)
    (folder / "tmp").mkdir()
    (folder / "tmp" / "a.content").write_bytes("Café of Ann.".encode())
    (folder / "tmp" / "b.content").write_bytes(b"Things.")
    (folder / "tmp" / "c.content").write_bytes("Café, so.".encode("latin-1"))
    return folder


def open_narrative_qa(folder: Path | None, name: str = "narrative_qa", **flags):
    return open_examples(TASKS[name], TaskRequest(name, dataset_dir=folder, **flags))


def test_stories(repository):
    examples = open_narrative_qa(repository)
    assert [example.id for example in examples] == ["a:2", "c:5", "a:7"]
    assert [example.prompt.context for example in examples] == ["Café of Ann.", "Café, so.", "Café of Ann."]
    assert [example.targets for example in examples] == [["Ann.", "Ann Lee"], ["Yes"], ["Because,\nof it", "So"]]
    assert " Question: Who, then? Please highlight" in examples[0].prompt.tail
    assert "scientific" not in examples[0].prompt.text()
    published = open_narrative_qa(repository, published=True)[0].prompt
    assert published.head.startswith("You are given a scientific article and a question."), "as the published code asks"
    assert (published.context, published.tail) == (examples[0].prompt.context, examples[0].prompt.tail)
    (train,) = open_narrative_qa(repository, "narrative_qa_plain", split="train")
    assert train.targets == ["A thing"]


def test_summaries(repository):
    examples = open_narrative_qa(repository, dataset_group="summaries")
    assert [example.prompt.context for example in examples] == ["Summary of a.", "Summary of lost.", "Summary of a."]


def test_no_story_left(repository):
    for path in (repository / "tmp").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="no example left in --split test: .*qaps.csv asks about no document of it"):
        open_narrative_qa(repository)
    with pytest.raises(UserError, match=r"no example left in --split valid: .* is there as tmp/DOCUMENT_ID.content"):
        open_narrative_qa(repository, split="valid")


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"split": "all"}, "--split all is none of --dataset narrative_qa's"),
        ({"dataset_group": "books"}, "--dataset_group books is neither of narrative_qa's: stories, summaries"),
    ],
)
def test_bad_flags(repository, flags, message):
    with pytest.raises(UserError, match=message):
        open_narrative_qa(repository, **flags)


def test_missing_files(repository):
    with pytest.raises(UserError, match="--dataset narrative_qa needs --dataset_dir, the folder with documents.csv"):
        open_narrative_qa(None)
    (repository / "documents.csv").unlink()
    with pytest.raises(UserError, match="documents.csv cannot be read: No such file"):
        open_narrative_qa(repository)


@pytest.mark.parametrize(
    "raw, message",
    [
        (b"", "line 1 has no column 'document_id'; it has: none"),
        (b"document_id,set,question,answer1\n", "line 1 has no column 'answer2'; it has: document_id, set, question"),
        (b"document_id,set,question,answer1,answer2\na,test,Who?,x,y\na,test\n", "line 3 has fewer fields than"),
        (
            b"document_id,set,question,answer1,answer2\na,test," + b"o" * 200 + b",x,y\n",
            "line 2 is malformed",
        ),
        (b"document_id,set,question,answer1,answer2\na,test,\xff,x,y\n", "is not UTF-8 text"),
    ],
)
def test_wrong_fields(repository, raw, message, monkeypatch):
    monkeypatch.setattr("data.tasks.narrative_qa.LONGEST_FIELD", 100)
    (repository / "qaps.csv").write_bytes(raw)
    with pytest.raises(UserError, match=message) as error:
        open_narrative_qa(repository)
    assert str(error.value).startswith(str(repository / "qaps.csv"))
