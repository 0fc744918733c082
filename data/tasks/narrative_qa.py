"""`narrative_qa` and `narrative_qa_plain`: questions about books and film scripts (Kočiský et al., arXiv 1712.07040).

--dataset_dir is a copy of github.com/google-deepmind/narrativeqa: documents.csv, qaps.csv and, from its
download_stories.sh, tmp/DOCUMENT_ID.content. --dataset_group summaries asks about the summaries in
third_party/wikipedia/summaries.csv instead. Questions about stories that are not there are left out.
`narrative_qa` is asked in the dialogue format of Llama 2, `narrative_qa_plain` in plain text. The published code tells
the model that the story is a scientific article; this one does not, unless the published protocol is asked for.
"""

import csv
import io
from dataclasses import replace
from pathlib import Path

from data.sources.text import decode, reading
from data.tasks import qasper
from data.tasks.question_answering import MAX_GENERATION_LENGTH, STOP, question_prompt, tagged_f1
from data.tasks.task import Example, Task, TaskRequest
from utils.errors import UserError

INSTRUCTION = (
    "You are given a story, which can be either a novel or a movie script, and a question. Answer the question as "
    "concisely as you can, using a single phrase or sentence if possible. Story:"
)
SPLITS = {"train": "train", "validation": "valid", "valid": "valid", "test": "test"}
DOCUMENTS, QUESTIONS, SUMMARIES = "documents.csv", "qaps.csv", "third_party/wikipedia/summaries.csv"
STORY = "tmp/{}.content"
GROUPS = ("stories", "summaries")
LONGEST_FIELD = 1 << 24


class NarrativeQA:
    """Examples of one split, in the order of qaps.csv; a story is read when an example about it is."""

    def __init__(self, request: TaskRequest) -> None:
        """Raises UserError."""
        self._name, split = request.name, _split(request)
        self._instruction = qasper.INSTRUCTION if request.published else INSTRUCTION
        self._folder = request.need_files(f"{DOCUMENTS} and {QUESTIONS} (github.com/google-deepmind/narrativeqa)")
        self._summaries = None
        if _group(request) == "summaries":
            rows = read_table(self._folder / SUMMARIES, ("document_id", "set", "summary"))
            self._summaries = {row["document_id"]: row["summary"].strip() for _, row in rows if row["set"] == split}
            known = set(self._summaries)
        else:
            documents = read_table(self._folder / DOCUMENTS, ("document_id", "set"))
            of_split = {row["document_id"] for _, row in documents if row["set"] == split}
            known = {document for document in of_split if self._story(document).is_file()}
        columns = ("document_id", "set", "question", "answer1", "answer2")
        questions = read_table(self._folder / QUESTIONS, columns)
        self._rows = [(line, row) for line, row in questions if row["set"] == split and row["document_id"] in known]
        if not self._rows:
            looked_for = SUMMARIES if self._summaries is not None else STORY.format("DOCUMENT_ID")
            raise UserError(
                f"--dataset {self._name} has no example left in --split {request.split}: {self._folder / QUESTIONS} "
                f"asks about no document of it that is there as {looked_for}"
            )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Example:
        line, row = self._rows[index]
        prompt = question_prompt(self._instruction, self._text(row["document_id"]), row["question"].strip())
        targets = list(dict.fromkeys((row["answer1"].strip(), row["answer2"].strip())))
        return Example(index, f"{row['document_id']}:{line}", self._name, prompt, targets)

    def _story(self, document: str) -> Path:
        return self._folder / STORY.format(document)

    def _text(self, document: str) -> str:
        if self._summaries is not None:
            return self._summaries[document]
        with reading(self._story(document)):
            raw = self._story(document).read_bytes()
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            return raw.decode("latin-1")  # as many of Project Gutenberg's older files are


def read_table(path: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """(line of the file, row) of a .csv file with these columns at least. Raises UserError."""
    with reading(path):
        text = decode(path.read_bytes(), str(path))
    limit = csv.field_size_limit(LONGEST_FIELD)  # of this process: others may count on theirs
    reader = csv.DictReader(io.StringIO(text, newline=""))
    rows = []
    try:
        for column in columns:
            if column not in (reader.fieldnames or []):
                there = ", ".join(reader.fieldnames or []) or "none"
                raise UserError(f"{path} line 1 has no column '{column}'; it has: {there}")
        for row in reader:
            if any(row[column] is None for column in columns):
                raise UserError(f"{path} line {reader.line_num} has fewer fields than line 1 has columns")
            rows.append((reader.line_num, row))
    except csv.Error as error:
        raise UserError(f"{path} line {reader.reader.line_num} is malformed: {error}") from None
    finally:
        csv.field_size_limit(limit)
    return rows


def _split(request: TaskRequest) -> str:
    if request.split not in SPLITS:
        raise UserError(f"--split {request.split} is none of --dataset {request.name}'s: {', '.join(SPLITS)}")
    return SPLITS[request.split]


def _group(request: TaskRequest) -> str:
    if request.dataset_group not in (None, *GROUPS):
        raise UserError(f"--dataset_group {request.dataset_group} is neither of narrative_qa's: {', '.join(GROUPS)}")
    return request.dataset_group or GROUPS[0]


TASK = Task(
    name="narrative_qa",
    build=NarrativeQA,
    metric=tagged_f1,
    metric_name="f1",
    max_generation_length=MAX_GENERATION_LENGTH,
    options=("dataset_dir", "dataset_group", "split"),
    stop=STOP,
    structured=True,
)
PLAIN_TASK = replace(TASK, name="narrative_qa_plain", structured=False)
