"""Downstream tasks: their record, and what a script needs of one.

    task = get_task(arguments.dataset, arguments.dataset_group)           # data/tasks/registry.py
    encoder = PromptEncoder(tokenizer, structured=task.structured or arguments.structured_prompt, chat=...)
    request = TaskRequest(task.name, **encoder.counts(), length=arguments.max_length, ...)
    examples = open_examples(task, request, arguments.start_data_from, arguments.max_data_num)
    for place in this_ranks_share_of(len(examples)):
        example = examples[place]                                         # needs no other example
        input_ids = encoder.encode(example.prompt)                        # then truncate
        output = generate(input_ids, task.max_generation_length, task.stop)
        score = task.metric(output, example.targets)                      # 0 to 1

A generated task fills its prompts to `length` tokens as `count` counts them, with the chat template if there is one,
so they need no truncation; RULER's leave room for the answer, as published. A task on files takes its texts as they
are. What a task cannot honour is refused.

To add a task, write a function from a TaskRequest to Examples, make a Task of it, and name that in the registry.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

from data.tasks.prompt import Prompt, TokenCounter
from utils.errors import UserError

Metric = Callable[[str, Sequence[str]], float]
Components = Callable[[str, Sequence[str]], dict[str, float]]
ALWAYS_LEGAL = ("name", "count", "count_text", "beginning", "length", "length_flag", "seed", "published")
NUM_SAMPLES = 100


@dataclass(frozen=True)
class Example:
    """A prompt with its reference answers.

    index: its place in the task's own order, before any selection. id: names it within its task.
    length: tokens of the prompt, None for a text as it came. depth: where the answer is in the context, 0 at its
    beginning to 1 at its end, counted in characters; None where there is no one place.
    """

    index: int
    id: str
    task: str
    prompt: Prompt
    targets: list[str]
    length: int | None = None
    depth: float | None = None


class Examples(Protocol):
    """A lazy sequence: reading one example costs nothing for the others."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example:
        """Example `index`, 0 <= index < len(self). Raises UserError where it cannot be read or made."""
        ...


@dataclass(frozen=True)
class TaskRequest:
    """The user's flags, by their names; every task is opened with one.

    count, length: the tokens of a prompt, and how many a generated one has at most. length_flag: its name.
    count_text: the tokens of a bare text, none added; None takes `count` of a prompt that has nothing else. beginning:
    how many tokens in `count` the tokenizer adds before the text.
    num_samples: how many examples are generated (None: 100). depths: where answers are put, in turn (None: the task's
    own choice). needles: how many facts are hidden. haystack: the corpus that they are hidden in.
    first_half: a pass key is hidden in the first half of the text only. nominal_length: the length of its prompt is as
    the published generator counts. published: prompts have the published wording where another is better.
    """

    name: str
    count: TokenCounter | None = None
    length: int | None = None
    length_flag: str = "max_length"
    seed: int = 0
    dataset_dir: Path | None = None
    dataset_group: str | None = None
    split: str = "test"
    num_samples: int | None = None
    depths: tuple[float, ...] | None = None
    needles: int | None = None
    haystack: str | None = None
    first_half: bool = False
    nominal_length: bool = False
    published: bool = False
    count_text: Callable[[str], int] | None = None
    beginning: int = 0

    @property
    def samples(self) -> int:
        """Number of examples to generate."""
        return NUM_SAMPLES if self.num_samples is None else self.num_samples

    def need_files(self, what: str) -> Path:
        """The folder of the data. `what` is in it, for the UserError if none is given or it is not there."""
        if self.dataset_dir is None:
            raise UserError(f"--dataset {self.name} needs --dataset_dir, the folder with {what}")
        if not self.dataset_dir.is_dir():
            raise UserError(f"--dataset_dir {self.dataset_dir} is not a folder: give the one with {what}")
        return self.dataset_dir

    def refuse(self, flags: Sequence[str], whom: str) -> None:
        """Raise a UserError if one of these flags is given, which mean nothing to `whom`."""
        defaults = {option.name: option.default for option in fields(self)}
        for flag in flags:
            value = getattr(self, flag)
            if value != defaults[flag]:
                given = "" if value is True else f" {value}"
                raise UserError(f"--{flag}{given} means nothing to {whom}: leave it out")

    def text_tokens(self, text: str) -> int:
        """The tokens of a bare text, none added."""
        if self.count_text is not None:
            return self.count_text(text)
        return self.count(Prompt("", text, "")) - self.beginning

    def need_length(self) -> tuple[TokenCounter, int]:
        """(count, length). Raises UserError without a length."""
        if self.length is None:
            raise UserError(
                f"--dataset {self.name} is generated: say with --{self.length_flag} how many tokens a prompt has"
            )
        if self.count is None:
            raise ValueError("a generated task needs `count`, the tokens of a prompt")
        return self.count, self.length


@dataclass(frozen=True)
class Task:
    """metric: (output, targets) -> score, 0 to 1, called `metric_name`. stop: strings that end an answer.

    components: (output, targets) -> numbers by name, of which the metric is the geometric mean; the score of many
    examples is then that of the numbers' means. None where it is the mean of the examples' scores.
    max_generation_length: tokens that an answer needs. options: the fields of TaskRequest that it honours, besides
    those that are always legal. structured: its prompts are structured ones even without --structured_prompt.
    generates: its prompts can be made without files, for any tokenizer and length. published: flags of the protocol of
    its published numbers, None where there are none; besides, its answers are `max_generation_length` long at most.
    """

    name: str
    build: Callable[[TaskRequest], Examples]
    metric: Metric
    metric_name: str
    max_generation_length: int
    options: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    structured: bool = False
    generates: bool = False
    components: Components | None = None
    published: Mapping[str, Any] | None = field(default_factory=dict)

    @property
    def length_of_answer(self) -> int:
        """Tokens of --max_length that are the answer's, so that no prompt takes them: RULER counts so."""
        return self.max_generation_length if self.name.startswith("ruler/") else 0


class Selection:
    """A stretch of a task's examples; they keep their `index`. Iterate it, or read one by its place."""

    def __init__(self, examples: Examples, start: int, stop: int) -> None:
        self._examples, self._start, self._stop = examples, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, place: int) -> Example:
        if not 0 <= place < len(self):
            raise IndexError(f"example {place} of {len(self)}")
        return self._examples[self._start + place]

    def __iter__(self) -> Iterator[Example]:
        return (self[place] for place in range(len(self)))


def open_examples(
    task: Task, request: TaskRequest, start_data_from: int = 0, max_data_num: int | None = None
) -> Selection:
    """Examples `start_data_from`, ... of a task, at most `max_data_num` (None: all the rest). Raises UserError."""
    illegal = [option.name for option in fields(request) if option.name not in (*ALWAYS_LEGAL, *task.options)]
    request.refuse(illegal, f"--dataset {task.name}")
    _check(request)
    examples = task.build(request)
    if len(examples) == 0:
        raise UserError(f"--dataset {task.name} holds no example")
    if not 0 <= start_data_from < len(examples):
        raise UserError(
            f"--start_data_from {start_data_from} is beyond the end of --dataset {task.name}: "
            f"it holds {len(examples)} examples, counted from 0"
        )
    stop = len(examples) if max_data_num is None else min(len(examples), start_data_from + max_data_num)
    return Selection(examples, start_data_from, stop)


def _check(request: TaskRequest) -> None:
    """Refuse numbers that make no sense."""
    for name in ("length", "num_samples", "needles"):
        value = getattr(request, name)
        if value is not None and value < 1:
            flag = request.length_flag if name == "length" else name
            raise UserError(f"--{flag} {value} is too small: give 1 or more")
    for depth in request.depths or ():
        if not 0 <= depth <= 1:
            raise UserError(
                f"--depths {depth} is no place in a text: give numbers from 0, its beginning, to 1, its end"
            )
