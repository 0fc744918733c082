"""Flags of the script for downstream tasks."""

from argparse import ArgumentTypeError, Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.arguments import add_document_arguments, add_selection_arguments
from utils.arguments import HarnessParser, finite_number, whole_number
from utils.errors import UserError

if TYPE_CHECKING:
    from data.tasks.prompt import PromptEncoder
    from data.tasks.task import TaskRequest

TRUNCATION_SIDES = ("right", "left", "center")
LEFT_OF_PROMPTS = "left drops the beginning-of-sequence token with the rest, as published"


@dataclass(frozen=True)
class TaskPlan:
    """Which task, which of its examples, and how they are put to the model.

    dataset to nominal_length: as in `data.tasks.task.TaskRequest`. percent: scores are shown from 0 to 100. protocol:
    "published" has prompts in the published wording. structured_prompt, apply_chat_template: the format of
    prompts. runtime_truncation: the model reads only the last so many tokens of one, None for all of them.
    evaluate_metrics: whether BLEU and ROUGE are computed besides the score. silent: examples are not shown.
    no_shared_prefill: each prompt is read from its start.
    """

    dataset: str
    dataset_dir: str | None = None
    dataset_group: str | None = None
    split: str = "test"
    start_data_from: int = 0
    max_data_num: int | None = None
    seed: int = 0
    num_samples: int | None = None
    depths: list[float] | None = None
    needles: int | None = None
    haystack: str | None = None
    first_half: bool = False
    nominal_length: bool = False
    percent: bool = False
    protocol: str | None = None
    structured_prompt: bool = False
    apply_chat_template: bool = False
    runtime_truncation: int | None = None
    evaluate_metrics: bool = False
    silent: bool = False
    no_shared_prefill: bool = False


def add_task_arguments(parser: HarnessParser) -> None:
    """Which task, which of its examples, and how they are put to the model."""
    group = parser.add_argument_group("task")
    group.add_argument(
        "--dataset",
        default="passkey_retrieval",
        metavar="TASK",
        help="a task: passkey_retrieval, needle_in_a_haystack, qasper, narrative_qa, ruler/vt, zero_scrolls/..., ...; "
        "a wrong name lists them all (default: %(default)s)",
    )
    add_selection_arguments(group, "examples")
    group.add_argument(
        "--seed", type=whole_number(0), default=0, metavar="N", help="generated examples are drawn from it (default: 0)"
    )
    group.add_argument(
        "--num_samples", type=whole_number(1), metavar="N", help="examples of a generated task (default: 100)"
    )
    group.add_argument(
        "--depths",
        type=_share,
        nargs="+",
        metavar="SHARE",
        help="where answers are hidden, in turn: 0 is the beginning, 1 the end (default: the task's own choice)",
    )
    group.add_argument("--needles", type=whole_number(1), metavar="N", help="how many facts are hidden (default: 1)")
    group.add_argument("--haystack", metavar="NAME", help="corpus that needles are hidden in (default: the task's own)")
    group.add_argument("--first_half", action="store_true", help="hide a pass key in the first half of the text only")
    group.add_argument(
        "--nominal_length",
        action="store_true",
        help="a pass key's prompt is as long as the published generator makes it for --max_length, or a little longer",
    )
    group.add_argument("--percent", action="store_true", help="scores from 0 to 100 where they are shown")
    group.add_argument("--structured_prompt", action="store_true", help="prompts in Llama 2's dialogue format")
    group.add_argument(
        "--apply_chat_template", action="store_true", help="prompts in the tokenizer's own chat template"
    )
    group.add_argument(
        "--evaluate_metrics", action="store_true", help="besides the task's score, BLEU and ROUGE of the outputs"
    )
    group.add_argument("--silent", action="store_true", help="do not show each example's output")
    group.add_argument(
        "--runtime_truncation",
        type=whole_number(2),
        metavar="TOKENS",
        help="baseline: the model reads only the last so many tokens of a prompt (default: all of them)",
    )
    group.add_argument(
        "--no_shared_prefill",
        action="store_true",
        help="read every prompt from its start, also where questions on one document share it",
    )
    add_document_arguments(parser, "examples", TRUNCATION_SIDES, LEFT_OF_PROMPTS)
    parser.look_ups.append(_find_task)


def _find_task(arguments: Namespace) -> None:
    from data.tasks.registry import get_task

    get_task(arguments.dataset, arguments.dataset_group)


def task_request(plan: TaskPlan, length: int | None, encoder: "PromptEncoder") -> "TaskRequest":
    """The request that opens a task; `length`: tokens of a prompt at most, which `encoder` counts."""
    from data.tasks.registry import takes_group
    from data.tasks.task import TaskRequest

    return TaskRequest(
        name=plan.dataset,
        **encoder.counts(),
        length=length,
        seed=plan.seed,
        dataset_dir=Path(plan.dataset_dir).expanduser() if plan.dataset_dir else None,
        dataset_group=None if takes_group(plan.dataset) else plan.dataset_group,
        split=plan.split,
        num_samples=plan.num_samples,
        depths=tuple(plan.depths) if plan.depths else None,
        needles=plan.needles,
        haystack=plan.haystack,
        first_half=plan.first_half,
        nominal_length=plan.nominal_length,
        published=plan.protocol is not None,
    )


def published_flags(arguments: Namespace) -> dict[str, Any]:
    """What the published protocol of a task fixes. Raises UserError where it has none."""
    from data.tasks.registry import get_task

    task = get_task(arguments.dataset, arguments.dataset_group)
    if task.published is None:
        raise UserError(f"--protocol published has no meaning for --dataset {task.name}: it has no published numbers")
    if "haystack" in task.options and not (arguments.haystack or "").endswith(".json"):
        raise UserError(
            f"--protocol published for --dataset {task.name} needs --haystack, RULER's own PaulGrahamEssays.json"
        )
    flags = {"percent": True, "max_generation_length": task.max_generation_length, **task.published}
    if arguments.dataset_dir is not None:
        flags.pop("nominal_length", None)  # files are as long as they are
    return flags


def _share(text: str) -> float:
    """An argparse type: a number from 0 to 1."""
    value = finite_number(text)
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"must be from 0 to 1, not {text}")
    return value
