"""Flags of the script for lm-eval's tasks; those that lm-eval has too are called as it calls them."""

import json
from argparse import ArgumentTypeError, Namespace
from dataclasses import dataclass
from typing import Any

from scripts.lm_harness.library import require_lm_eval
from utils.arguments import HarnessParser, finite_number, whole_number


@dataclass(frozen=True)
class TasksPlan:
    """Which tasks of lm-eval, and how it makes their requests.

    tasks: names of tasks, groups and tags, patterns of these, and YAML files. include_path: a folder of more tasks.
    num_fewshot: solved examples before each question, None for the task's own number. limit: examples of each task,
    below 1 the share of them. apply_chat_template, system_instruction: the format of prompts. gen_kwargs: what counts
    over the tasks' own arguments of generation. metadata: what tasks that make their examples are handed. seed: None
    for lm-eval's own. max_length: tokens that a request may have, the generated ones included.
    """

    tasks: list[str]
    include_path: str | None = None
    num_fewshot: int | None = None
    limit: float | None = None
    apply_chat_template: bool = False
    system_instruction: str | None = None
    gen_kwargs: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    seed: int | None = None
    max_length: int | None = None

    def suspects(self) -> str:
        """The flags that may be why a task fails, those that say how it is asked, for the end of a sentence."""
        names = ("gen_kwargs", "num_fewshot", "metadata", "system_instruction", "apply_chat_template", "limit")
        given = [f"--{name}" for name in names if getattr(self, name) not in (None, False)]
        return " and ".join([", ".join(given), "--tasks"] if given else ["--tasks"])


def add_lm_eval_arguments(parser: HarnessParser) -> None:
    """Which tasks, and how lm-eval makes their requests."""
    group = parser.add_argument_group("lm-eval")
    group.add_argument(
        "--tasks",
        type=_names,
        required=True,
        metavar="NAME,NAME",
        help="tasks, groups or tags of lm-eval, patterns such as 'ruler_*', or YAML files; a wrong name is told which "
        "are close",
    )
    group.add_argument("--include_path", metavar="DIR", help="a folder of tasks of your own, as YAML files")
    group.add_argument(
        "--num_fewshot",
        type=whole_number(0),
        metavar="N",
        help="solved examples before each question, where the task has no 0 of its own (default: the task's own)",
    )
    group.add_argument(
        "--limit",
        type=_limit,
        metavar="N",
        help="the first N examples of each task, or below 1 that share of them (default: all)",
    )
    group.add_argument("--apply_chat_template", action="store_true", help="prompts in the tokenizer's chat template")
    group.add_argument("--system_instruction", metavar="TEXT", help="what every prompt begins with (default: nothing)")
    group.add_argument(
        "--gen_kwargs",
        type=_json_object,
        metavar="JSON",
        help="arguments of generation that count over those of the tasks, as a JSON object (default: the tasks' own)",
    )
    group.add_argument(
        "--metadata",
        type=_json_object,
        metavar="JSON",
        help="what tasks that make their examples are handed, as '{\"max_seq_lengths\": [4096]}' for RULER; the "
        "tokenizer is added (default: the tokenizer alone)",
    )
    group.add_argument(
        "--seed",
        type=whole_number(0),
        metavar="N",
        help="seed of generated examples, of the choice of solved ones and of what is sampled (default: lm-eval's own)",
    )
    group.add_argument(
        "--max_length",
        type=whole_number(2),
        metavar="TOKENS",
        help="cut longer requests on the left, what is generated included, and read longer documents in windows "
        "(default: never, but for a vanilla model what it was pre-trained on, as lm-eval does)",
    )
    group.add_argument(
        "--batch_size", type=whole_number(1), default=1, metavar="N", help="requests in one forward (default: 1)"
    )
    group.add_argument(
        "--no_captured_step",
        action="store_true",
        help="decode by ordinary forwards, also where a step could be captured as a CUDA graph",
    )
    parser.look_ups.append(_look_up)


def _look_up(_: Namespace) -> None:
    """Raise SharedError where lm-eval is missing; its tasks take seconds to list, so they are not looked up."""
    require_lm_eval()


def _names(text: str) -> list[str]:
    """An argparse type: names between commas, each once."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ArgumentTypeError(f"must be names with one comma between two, not {text!r}")
    return list(dict.fromkeys(names))


def _limit(text: str) -> float:
    """An argparse type: a number of examples, or a share of them between 0 and 1."""
    value = finite_number(text)
    if value <= 0 or (value >= 1 and value != int(value)):
        raise ArgumentTypeError(f"must be a whole number of at least 1, or a share between 0 and 1, not {text}")
    return value


def _json_object(text: str) -> dict[str, Any]:
    """An argparse type: a JSON object."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ArgumentTypeError(f"must be a JSON object: {error}") from None
    if not isinstance(value, dict):
        raise ArgumentTypeError(f"must be a JSON object, not {text}")
    return value
