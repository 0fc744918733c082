"""`qasper` and `qasper_plain`: questions about papers (Dasigi et al., 2021, arXiv 2105.03011).

--dataset_dir is the folder of qasper-test-v0.3.json, or of the dev or train file that --split names: one object whose
fields are papers, each with `full_text` (sections of `section_name`, `paragraphs`) and `qas` (`question`,
`question_id`, `answers`); without it they come from the Hugging Face hub. `qasper` is asked in the dialogue format of
Llama 2, `qasper_plain` in plain text, as published.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from data.sources.text import json_type, parse_json, reading
from data.tasks import qasper_hub
from data.tasks.checking import pick, pick_as, pick_text, pick_texts
from data.tasks.question_answering import MAX_GENERATION_LENGTH, STOP, question_prompt, tagged_f1
from data.tasks.task import Example, Task, TaskRequest
from utils.errors import UserError

INSTRUCTION = (
    "You are given a scientific article and a question. Answer the question as concisely as you can, using a single "
    "phrase or sentence if possible. If the question cannot be answered based on the information in the article, write "
    '"unanswerable". If the question is a yes/no question, answer "yes", "no", or "unanswerable". Article:'
)
FILES = "qasper-{}-v*.json"
SPLITS = {"train": "train", "validation": "dev", "dev": "dev", "test": "test"}


class Qasper:
    """Examples of one file: every question that has an answer, about papers without a text as well, as published."""

    def __init__(self, request: TaskRequest) -> None:
        """Raises UserError, for a wrong field too: the whole file is checked."""
        self._name = request.name
        where, papers = read_papers(request)
        self._texts: dict[str, str] = {}
        self._questions: list[tuple[str, str, str, list[str]]] = []  # paper, question's id, question, answers
        for paper, value in papers.items():
            self._add(paper, value, f"{where}, paper {paper}")
        if not self._questions:
            raise UserError(f"{where} has no question with an answer")

    def _add(self, paper: str, value: Any, where: str) -> None:
        self._texts[paper] = full_text(value, where)
        for number, question in enumerate(pick_as(value, "qas", list, where), start=1):
            at = f"{where}, question {number}"
            answers = [
                read_answer(pick(answer, "answer", f"{at}, answer {count}"), f"{at}, answer {count}")
                for count, answer in enumerate(pick_as(question, "answers", list, at), start=1)
            ]
            if answers:
                found = pick_text(question, "question_id", at), pick_text(question, "question", at)
                self._questions.append((paper, *found, answers))

    def __len__(self) -> int:
        return len(self._questions)

    def __getitem__(self, index: int) -> Example:
        paper, identifier, question, answers = self._questions[index]
        prompt = question_prompt(INSTRUCTION, self._texts[paper], question)
        return Example(index, f"{paper}:{identifier}", self._name, prompt, answers)


def read_papers(request: TaskRequest) -> tuple[str, dict[str, Any]]:
    """(where they come from, the papers of the request's split by id). Raises UserError."""
    if request.split not in SPLITS:
        raise UserError(f"--split {request.split} is none of --dataset {request.name}'s: {', '.join(SPLITS)}")
    split = SPLITS[request.split]
    files = f"{FILES.format(split)} (https://allenai.org/data/qasper)"
    if request.dataset_dir is None:
        return qasper_hub.NAME, qasper_hub.load_papers(request.name, split, files)
    path = find_file(request, request.need_files(files), FILES.format(split))
    with reading(path):
        papers = parse_json(path.read_bytes(), str(path))
    if not isinstance(papers, dict):
        raise UserError(f"{path} must be an object of papers, not {json_type(papers)}")
    return str(path), papers


def find_file(request: TaskRequest, folder: Path, pattern: str) -> Path:
    """The newest file of that pattern. Raises UserError."""
    found = sorted(folder.glob(pattern))
    if not found:
        raise UserError(f"--dataset_dir {folder} holds no {pattern} for --split {request.split}")
    return found[-1]


def full_text(paper: Any, where: str) -> str:
    """A paper's sections, name and paragraphs each, with spaces in between. Raises UserError."""
    parts = []
    for number, section in enumerate(pick_as(paper, "full_text", list, where), start=1):
        at = f"{where}, section {number}"
        named = pick(section, "section_name", at) is not None  # some have no name
        parts += [pick_text(section, "section_name", at)] if named else []
        parts += pick_texts(section, "paragraphs", at)
    return " ".join(part for part in parts if part)


def read_answer(answer: Any, where: str) -> str:
    """An annotator's answer as text: "unanswerable", the spans, the free form, "yes" or "no". Raises UserError."""
    if pick_as(answer, "unanswerable", bool, where):
        return "unanswerable"
    if spans := pick_texts(answer, "extractive_spans", where):
        return ", ".join(spans)
    if free_form := pick_text(answer, "free_form_answer", where):
        return free_form
    if pick(answer, "yes_no", where) is None:
        raise UserError(f"{where} has neither spans nor a free form, nor is it yes, no or unanswerable")
    return "yes" if pick_as(answer, "yes_no", bool, where) else "no"


TASK = Task(
    name="qasper",
    build=Qasper,
    metric=tagged_f1,
    metric_name="f1",
    max_generation_length=MAX_GENERATION_LENGTH,
    options=("dataset_dir", "split"),
    stop=STOP,
    structured=True,
)
PLAIN_TASK = replace(TASK, name="qasper_plain", structured=False)
