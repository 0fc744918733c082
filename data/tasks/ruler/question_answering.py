"""RULER's question answering (arXiv 2404.06654, section 3): `ruler/qa_1`, of SQuAD, and `ruler/qa_2`, of HotpotQA.

--dataset_dir is the folder of SQuAD 2.0's dev-v2.0.json (or RULER's copy, squad.json) and of HotpotQA's
hotpot_dev_distractor_v1.json (or hotpotqa.json). Example i asks question i; the documents that answer it are among
others, of the same article first (SQuAD), then of the whole file.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from data.metrics.containment import string_match_part
from data.sources.text import json_type, parse_json, reading
from data.tasks.checking import pick_as, pick_text, pick_texts
from data.tasks.generated import Draft, GeneratedExamples, Recipe, generator
from data.tasks.prompt import Prompt
from data.tasks.ruler import PUBLISHED
from data.tasks.task import Task, TaskRequest
from utils.errors import UserError

MAX_GENERATION_LENGTH = 32
INSTRUCTION = (
    "Answer the question based on the given documents. Only give me the answer and do not output any other words."
)


@dataclass(frozen=True)
class Question:
    """documents: texts that answer it. related: texts of the same article."""

    text: str
    answers: list[str]
    documents: list[str]
    related: list[str] = field(default_factory=list)


def read_squad(data: Any, where: str) -> list[Question]:
    """SQuAD 2.0's answerable questions. Raises UserError."""
    questions = []
    for number, article in enumerate(pick_as(data, "data", list, where), start=1):
        of_article = f"{where}, article {number}"
        paragraphs = pick_as(article, "paragraphs", list, of_article)
        texts = [pick_text(paragraph, "context", of_article) for paragraph in paragraphs]
        for text, paragraph in zip(texts, paragraphs):
            related = [other for other in dict.fromkeys(texts) if other != text]
            for item in pick_as(paragraph, "qas", list, of_article):
                at = f"{of_article}, question {item.get('id') if isinstance(item, dict) else item}"
                if not pick_as(item, "is_impossible", bool, at):
                    answers = [pick_text(answer, "text", at) for answer in pick_as(item, "answers", list, at)]
                    questions.append(Question(pick_text(item, "question", at), answers, [text], related))
    return questions


def read_hotpotqa(data: Any, where: str) -> list[Question]:
    """HotpotQA's questions, each with its ten paragraphs. Raises UserError."""
    if not isinstance(data, list):
        raise UserError(f"{where} must be a list of questions, not {json_type(data)}")
    questions = []
    for number, item in enumerate(data, start=1):
        at = f"{where}, question {number}"
        documents = [_paragraph(entry, at) for entry in pick_as(item, "context", list, at)]
        questions.append(Question(pick_text(item, "question", at), [pick_text(item, "answer", at)], documents))
    return questions


def _paragraph(entry: Any, where: str) -> str:
    """The text of HotpotQA's [title, sentences]."""
    if not isinstance(entry, list) or len(entry) != 2:
        raise UserError(f"{where}, field 'context', must hold pairs of a title and its sentences")
    named = {"title": entry[0], "sentences": entry[1]}
    return f"{pick_text(named, 'title', where)}\n{''.join(pick_texts(named, 'sentences', where))}"


@dataclass(frozen=True)
class Variant:
    """files: the names that its file may have. read: from its JSON value."""

    files: tuple[str, ...]
    read: Callable[[Any, str], list[Question]]


VARIANTS = {
    "qa_1": Variant(("dev-v2.0.json", "squad.json"), read_squad),
    "qa_2": Variant(("hotpot_dev_distractor_v1.json", "hotpotqa.json"), read_hotpotqa),
}


class RulerQA(GeneratedExamples):
    """Prompts filled to within one document; as many of the file's questions as are asked for, all by default."""

    def __init__(self, variant: str, request: TaskRequest) -> None:
        """Raises UserError."""
        super().__init__(request, self._recipe_of, MAX_GENERATION_LENGTH)
        path = find_file(VARIANTS[variant], request)
        with reading(path):
            data = parse_json(path.read_bytes(), str(path))
        self._questions = VARIANTS[variant].read(data, str(path))
        if not self._questions:
            raise UserError(f"{path} holds no question that has an answer")
        texts = [text for question in self._questions for text in question.documents + question.related]
        self._documents = list(dict.fromkeys(texts))

    def __len__(self) -> int:
        wanted = self._request.num_samples
        return len(self._questions) if wanted is None else min(wanted, len(self._questions))

    def _recipe_of(self, index: int) -> Recipe:
        question, numbers = self._questions[index], generator(self._request, index)
        near = numbers.sample(question.related, len(question.related))
        known = {*question.documents, *near}
        far = [text for text in self._documents if text not in known]
        others = near + numbers.sample(far, len(far))

        def draft(count: int) -> Draft:
            texts = question.documents + others[:count]
            generator(self._request, index, "order").shuffle(texts)
            return Draft(_prompt(question, texts), question.answers)

        return Recipe(draft, most=len(others))


def _prompt(question: Question, texts: list[str]) -> Prompt:
    return Prompt(
        f"{INSTRUCTION}\n\nThe following are given documents.\n\n",
        "\n\n".join(f"Document {number}:\n{text}" for number, text in enumerate(texts, start=1)),
        f"\n\n{INSTRUCTION}\n\nQuestion: {question.text}",
        " Answer:",
        manner="",
    )


def find_file(variant: Variant, request: TaskRequest) -> Path:
    """The variant's file in --dataset_dir. Raises UserError."""
    names = " or ".join(variant.files)
    folder = request.need_files(names)
    for name in variant.files:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"--dataset_dir {folder} holds no {names}, which --dataset {request.name} needs")


TASKS = [
    Task(
        name=f"ruler/{variant}",
        build=partial(RulerQA, variant),
        metric=string_match_part,
        metric_name="string_match_part",
        max_generation_length=MAX_GENERATION_LENGTH,
        options=("num_samples", "dataset_dir"),
        published=PUBLISHED,
    )
    for variant in VARIANTS
]
