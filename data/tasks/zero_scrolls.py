"""`zero_scrolls/TASK`, or --dataset zero_scrolls --dataset_group TASK: ZeroSCROLLS (Shaham et al., arXiv 2305.14196).

--dataset_dir is a folder with TASK.zip as published, or with TASK/test.jsonl and TASK/validation.jsonl as in it;
without it, TASK.zip comes from the hub (tau/zero_scrolls). Lines of the same `id` are one example with several
references. Those of the test splits were private for long: lines without one are left out; --split validation has them.
A prompt beyond --max_length loses the end of its document, for which the task's separator stands; the question stays.
"""

from functools import partial
from pathlib import Path
from typing import Any

from data.metrics.f1 import ascii_f1
from data.metrics.zero_scrolls import (
    choice_accuracy,
    concordance_index,
    exponential_similarity,
    rouge_components,
    rouge_geometric_mean,
)
from data.tasks.checking import pick, pick_as, pick_text
from data.tasks.json_lines import JsonLines
from data.tasks.prompt import Prompt
from data.tasks.task import Example, Metric, Task, TaskRequest
from utils.errors import UserError

FAMILY = "zero_scrolls"
REPOSITORY = "tau/zero_scrolls"
SPLITS = ("test", "validation")
SEPARATOR = "truncation_seperator"  # as the published files spell it
SUMMARY, QUESTION = (rouge_geometric_mean, "rouge_geometric_mean"), (ascii_f1, "f1")
METRICS: dict[str, tuple[Metric, str, int]] = {
    "gov_report": (*SUMMARY, 1024),
    "summ_screen_fd": (*SUMMARY, 512),
    "qmsum": (*SUMMARY, 512),
    "squality": (*SUMMARY, 512),
    "qasper": (*QUESTION, 128),
    "narrative_qa": (*QUESTION, 64),
    "musique": (*QUESTION, 32),
    "quality": (choice_accuracy, "accuracy", 10),
    "space_digest": (exponential_similarity, "exponential_similarity", 36),
    "book_sum_sort": (concordance_index, "concordance_index", 256),
}
"""Metric, its name, and tokens of an answer at most, by task."""


class ZeroScrolls:
    """Examples of one of its tasks, in the order of their first lines."""

    def __init__(self, task: str, request: TaskRequest) -> None:
        """Raises UserError, for a wrong field of a reference too; prompts are checked when they are read."""
        self._name = request.name
        self._lines = open_lines(task, request)
        self._places: list[int] = []
        references: dict[str, list[str]] = {}
        for place, (where, line) in enumerate(self._lines):
            identifier, output = pick_text(line, "id", where), pick(line, "output", where)
            if output is None:
                continue
            if identifier not in references:
                self._places.append(place)
            references.setdefault(identifier, []).append(pick_text(line, "output", where))
        self._references = references
        if not self._places:
            raise UserError(
                f"--dataset {self._name} has no example left: no line of --split {request.split} has a reference, "
                "so take --split validation"
            )

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Example:
        where, line = self._lines.read(self._places[index])
        identifier = pick_text(line, "id", where)
        return Example(index, identifier, self._name, read_prompt(line, where), self._references[identifier])


def read_prompt(line: Any, where: str) -> Prompt:
    """The published prompt, whole, in its parts; what lies between document and question goes with the document.

    Raises UserError.
    """
    text, separator = pick_text(line, "input", where), pick_text(line, SEPARATOR, where)
    edges = ("document_start_index", "document_end_index", "query_start_index")
    start, end, query = (pick_as(line, edge, int, where) for edge in edges)
    if not 0 <= start <= end <= query <= len(text):
        raise UserError(
            f"{where} has a document from {start} to {end} in an input of {len(text)} characters, and its question "
            f"from {query} on"
        )
    return Prompt(text[:start], text[start:query], text[query:], manner="", separator=separator)


def open_lines(task: str, request: TaskRequest) -> JsonLines:
    """The lines of the request's split. Raises UserError."""
    if request.split not in SPLITS:
        raise UserError(f"--split {request.split} is none of --dataset {request.name}'s: {', '.join(SPLITS)}")
    member = f"{task}/{request.split}.jsonl"
    if request.dataset_dir is None:
        return JsonLines(download(task), member)
    folder = request.need_files(f"{task}.zip or {member}")
    if (folder / member).is_file():
        return JsonLines(folder / member)
    if not (folder / f"{task}.zip").is_file():
        raise UserError(f"--dataset_dir {folder} holds neither {member} nor {task}.zip, for --dataset {request.name}")
    return JsonLines(folder / f"{task}.zip", member)


def download(task: str) -> Path:
    """The task's .zip from the hub, kept in its cache. Raises UserError."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(REPOSITORY, f"{task}.zip", repo_type="dataset"))
    except Exception as error:  # the library raises its own types, those of its HTTP client, and OSError
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"--dataset {FAMILY}/{task} cannot be had from the Hugging Face hub ({reason}): "
            f"name a folder that holds {task}.zip with --dataset_dir"
        ) from error


TASKS = [
    Task(
        name=f"{FAMILY}/{task}",
        build=partial(ZeroScrolls, task),
        metric=metric,
        metric_name=metric_name,
        max_generation_length=length,
        options=("dataset_dir", "split"),
        components=rouge_components if metric is rouge_geometric_mean else None,
    )
    for task, (metric, metric_name, length) in METRICS.items()
]
