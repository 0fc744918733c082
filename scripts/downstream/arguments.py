"""Flags of the script for downstream tasks."""

from argparse import ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from data.arguments import add_document_arguments, add_selection_arguments
from utils.arguments import HarnessParser, finite_number, whole_number

if TYPE_CHECKING:
    from data.tasks.prompt import TokenCounter
    from data.tasks.task import TaskRequest

TRUNCATION_SIDES = ("right", "left", "center")


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
    add_document_arguments(parser, "examples", TRUNCATION_SIDES)


def task_request(arguments: Namespace, count: "TokenCounter") -> "TaskRequest":
    """What a task is opened with; `count` gives a prompt's tokens."""
    from data.tasks.registry import takes_group
    from data.tasks.task import TaskRequest

    return TaskRequest(
        name=arguments.dataset,
        count=count,
        length=arguments.max_length,
        seed=arguments.seed,
        dataset_dir=Path(arguments.dataset_dir).expanduser() if arguments.dataset_dir else None,
        dataset_group=None if takes_group(arguments.dataset) else arguments.dataset_group,
        split=arguments.split,
        num_samples=arguments.num_samples,
        depths=tuple(arguments.depths) if arguments.depths else None,
        needles=arguments.needles,
        haystack=arguments.haystack,
        first_half=arguments.first_half,
    )


def _share(text: str) -> float:
    """An argparse type: a number from 0 to 1."""
    value = finite_number(text)
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"must be from 0 to 1, not {text}")
    return value
