"""`passkey_retrieval`: a pass key of up to seven digits in repeated noise (Mohtashami and Jaggi, arXiv 2305.16300).

With --dataset_dir, the files that data/passkey_retrieval/create_passkey_data.py writes, or published ones: test.jsonl
in the folder of --dataset_group, by default --max_length if there is a folder of that name. Else prompts are generated.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.metrics.containment import first_line, first_number
from data.tasks.checking import pick_text
from data.tasks.generated import Draft, GeneratedExamples, Recipe, depth_of, generator
from data.tasks.hiding import NOISE, hide, noise
from data.tasks.json_lines import JsonLines
from data.tasks.prompt import Prompt
from data.tasks.task import Example, Examples, Task, TaskRequest
from utils.errors import UserError

INSTRUCTION = (
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. "
    "I will quiz you about the important information there."
)
KEY_SENTENCE = "The pass key is {key}. Remember it. {key} is the pass key."
QUESTION = " What is the pass key?"
ANSWER = " The pass key is "
"""With its space, as published: most tokenizers make it a token of its own, and the digits come in the first tokens."""
LARGEST_KEY = 9_999_999
INSTRUCTION_TOKENS = 2
"""What the published generator takes for the tokens of the instruction: the fields of a tokenizer's answer."""
FEWEST_ROUNDS = 2
FILE = "test.jsonl"


def build(request: TaskRequest) -> Examples:
    """The examples of files or, without --dataset_dir, generated ones. Raises UserError."""
    if request.dataset_dir is None:
        request.refuse(["dataset_group"], f"--dataset {request.name} without --dataset_dir")
        return generate(request)
    request.refuse(["num_samples", "depths", "first_half", "nominal_length"], "the files of --dataset_dir")
    return PasskeyFile(request)


def generate(request: TaskRequest) -> GeneratedExamples:
    """Prompts filled to within one sentence of the noise. The key is between two rounds of it, as published.

    It is in the first half of the rounds where `first_half` is asked for. With `nominal_length` the prompts have as
    many rounds as the published generator gives them: they may be longer than the length. Raises UserError.
    """
    if request.first_half and request.depths:
        raise UserError("--first_half contradicts --depths: give one of them")

    fixed = nominal_rounds(request) * len(NOISE) if request.nominal_length else None

    def recipe(index: int) -> Recipe:
        numbers = generator(request, index)
        key = str(numbers.randint(1, LARGEST_KEY))
        if request.depths:
            place = request.depths[index % len(request.depths)]
        else:
            place = numbers.random() * (0.5 if request.first_half else 1)
        return Recipe(lambda sentences: _draft(key, place, sentences), fixed=fixed)

    return GeneratedExamples(request, recipe)


def nominal_rounds(request: TaskRequest) -> int:
    """Rounds of noise in a prompt by the published generator's count of its length. Raises UserError for too few."""
    _, length = request.need_length()
    of_round, of_key = (
        request.text_tokens(text) + request.beginning for text in (" ".join(NOISE), KEY_SENTENCE.format(key="{KEY}"))
    )
    rounds = (length - of_key - INSTRUCTION_TOKENS) // of_round
    if rounds < FEWEST_ROUNDS:
        raise UserError(f"--{request.length_flag} {length} is too short: the noise would have less than two rounds")
    return rounds


def passkey_prompt(text: str) -> Prompt:
    """The prompt of a text with instruction, noise and key."""
    head = f"{INSTRUCTION} " if text.startswith(f"{INSTRUCTION} ") else ""
    return Prompt(head, text.removeprefix(head), QUESTION, ANSWER)


def _draft(key: str, place: float, sentences: int) -> Draft:
    rounds, needle = noise(sentences), KEY_SENTENCE.format(key=key)
    # Rounded down, so that a place in the first half stays there.
    share = math.floor(place * len(rounds)) / len(rounds) if rounds else 0.0
    text = " ".join([INSTRUCTION, *hide(rounds, [needle], [share])])
    return Draft(passkey_prompt(text), [key], needle)


class PasskeyFile:
    """Examples of a file of {"input", "target"} lines; the depth is read off the text."""

    def __init__(self, request: TaskRequest) -> None:
        folder = request.need_files(FILE)
        by_length = folder / str(request.length)
        if request.dataset_group is not None:
            folder = folder / request.dataset_group
        elif by_length.is_dir():
            folder = by_length
        self._path = _check_file(folder / FILE)
        self._lines = JsonLines(self._path)

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, index: int) -> Example:
        where, value = self._lines.read(index)
        prompt, key = passkey_prompt(pick_text(value, "input", where)), _pick_key(value, where)
        needle = KEY_SENTENCE.format(key=key)
        depth = depth_of(needle, prompt.context) if needle in prompt.context else None
        return Example(index, f"{self._path.parent.name}:{index}", TASK.name, prompt, [key], depth=depth)


def _check_file(path: Path) -> Path:
    if not path.is_file():
        raise UserError(
            f"{path} is not there: give in --dataset_dir, and --dataset_group if need be, the folder of a {FILE} that "
            "data/passkey_retrieval/create_passkey_data.py wrote"
        )
    return path


def _pick_key(value: Any, where: str) -> str:
    key = pick_text(value, "target", where)
    if not (key.isascii() and key.isdigit()):
        raise UserError(f"{where}, field 'target', must be a pass key of digits, not {key!r}")
    return key


def accuracy(output: str, targets: Sequence[str]) -> float:
    """1 if the first whole number of the output's first line is the pass key, else 0."""
    return first_number(first_line(output), targets)


TASK = Task(
    name="passkey_retrieval",
    build=build,
    metric=accuracy,
    metric_name="accuracy",
    max_generation_length=16,
    stop=("\n",),
    options=("dataset_dir", "dataset_group", "num_samples", "depths", "first_half", "nominal_length"),
    generates=True,
    published={"nominal_length": True, "max_generation_length": 7},
)
