"""Tasks of lm-eval by name: those of --include_path, else of lm-eval itself, opened and checked."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lm_eval.api.group import Group
from lm_eval.api.samplers import SAMPLER_REGISTRY
from lm_eval.api.task import Task
from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED
from lm_eval.tasks import TaskManager

from scripts.lm_harness.arguments import TasksPlan
from scripts.lm_harness.gen_kwargs import as_lm_eval_names
from utils.errors import UserError, did_you_mean
from utils.text_tables import counted

GENERATES = "generate_until"
YAML = (".yaml", ".yml")
OF_A_GROUP = "::"
"""Between the name of a group and that of a task which lm-eval takes to be written down in it alone."""


@dataclass(frozen=True)
class OpenedTasks:
    """Tasks and groups by name; a group knows its tasks."""

    tasks: dict[str, Task]
    groups: dict[str, Group]

    @property
    def names(self) -> list[str]:
        """Of the tasks, in their order."""
        return list(self.tasks)


def open_tasks(plan: TasksPlan, tokenizer: str) -> OpenedTasks:
    """Find the tasks, with their examples. tokenizer: the folder or name of the model's. Raises UserError."""
    if plan.include_path is not None and not Path(plan.include_path).is_dir():
        raise UserError(f"--include_path {plan.include_path} is no folder: give one with YAML files of tasks")
    for word in plan.tasks:
        if word.endswith(YAML) and not Path(word).is_file():
            raise UserError(f"--tasks {word} is no file: give the YAML file of a task, or a name")
    seed_all(plan)  # of examples that a task makes as it is opened
    loaded = _load(plan, {"tokenizer": tokenizer} | (plan.metadata or {}))
    opened = OpenedTasks(loaded["tasks"], loaded.get("groups", {}))
    if plan.gen_kwargs and not any(map(generates, opened.tasks.values())):
        raise UserError(f"--gen_kwargs: none of --tasks {','.join(plan.tasks)} generates text; leave it out")
    for name, task in opened.tasks.items():
        _refuse(name, task)
        _set_up(task, plan)
        _refuse_shots(name, task, plan)
    return opened


def generates(task: Task) -> bool:
    """Whether its answers are what the model writes."""
    return task.OUTPUT_TYPE == GENERATES


def seed_all(plan: TasksPlan) -> None:
    """Seed Python, numpy and torch, by default as lm-eval does."""
    random.seed(DEFAULT_RANDOM_SEED if plan.seed is None else plan.seed)
    np.random.seed((DEFAULT_OTHER_SEED if plan.seed is None else plan.seed) % 2**32)
    torch.manual_seed(DEFAULT_OTHER_SEED if plan.seed is None else plan.seed)


def _load(plan: TasksPlan, metadata: dict[str, Any]) -> dict[str, Any]:
    """What lm-eval's TaskManager loads. Its own thousands of tasks take seconds, and are looked at where need be."""
    if plan.include_path is not None:
        own = TaskManager(include_path=plan.include_path, include_defaults=False, metadata=metadata)
        loaded = _loaded_alone(own, plan.tasks)
        if loaded is not None:
            return loaded
    manager = TaskManager(include_path=plan.include_path, metadata=metadata)
    return _opened(manager, [name for word in plan.tasks for name in _found(manager, word)])


def _loaded_alone(own: TaskManager, words: Sequence[str]) -> dict[str, Any] | None:
    """What is loaded of --include_path alone; None where lm-eval's own tasks may be meant, by name or in a group."""
    found = [_matching(own, word) for word in words]
    names = [name for matching in found for name in matching]
    if not all(found):
        return None
    if not set(names) & set(own.all_groups):
        return _opened(own, names)
    try:
        loaded = _opened(own, names)
    except UserError:
        return None
    inline = any(OF_A_GROUP in name for name in (*loaded["tasks"], *loaded["groups"]))  # or a task that is not there
    return None if inline else loaded


def _opened(manager: TaskManager, names: Sequence[str]) -> dict[str, Any]:
    """Raises UserError for whatever goes wrong there: a task's data or packages may be missing, or its YAML wrong."""
    names = list(dict.fromkeys(names))
    try:
        return manager.load(names)
    except Exception as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise UserError(f"--tasks {','.join(names)} cannot be opened: {type(error).__name__}: {reason}") from error


def _matching(manager: TaskManager, word: str) -> list[str]:
    """The names that a word stands for; a YAML file's path stands for itself."""
    if word.endswith(YAML):
        return [word] if Path(word).is_file() else []
    return manager.match_tasks([word])


def _found(manager: TaskManager, word: str) -> list[str]:
    names = _matching(manager, word)
    if names:
        return names
    raise UserError(
        f"--tasks {word} is none of lm-eval's {len(manager.all_tasks):,} tasks, groups and tags, nor in "
        f"--include_path; `lm_eval ls tasks` lists its own{did_you_mean(word, manager.all_tasks)}"
    )


def _refuse(name: str, task: Task) -> None:
    """Raise UserError for a task that a text model, or this script, cannot do."""
    if getattr(task, "UNSAFE_CODE", False):
        raise UserError(f"--tasks {name} runs code that the model writes, which this script does not: leave it out")
    if getattr(task, "MULTIMODAL", False):
        raise UserError(f"--tasks {name} has pictures or sound, and the model reads text alone: leave it out")
    if not len(task.eval_docs):
        raise UserError(f"--tasks {name} has no examples")


def _set_up(task: Task, plan: TasksPlan) -> None:
    """What the flags say of a task, as lm-eval's own `simple_evaluate` hands it on."""
    if plan.gen_kwargs and generates(task):
        task.set_config(key="generation_kwargs", value=as_lm_eval_names(plan.gen_kwargs), update=True)
    own = task.get_config("num_fewshot")
    if plan.num_fewshot is not None and own != 0:  # a task with 0 of its own has no solved examples
        task.set_config(key="num_fewshot", value=plan.num_fewshot)
    elif own is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED if plan.seed is None else plan.seed)


def _refuse_shots(name: str, task: Task, plan: TasksPlan) -> None:
    """Raise UserError where --num_fewshot asks for more solved examples than lm-eval has to choose from."""
    asked, sampler = task.get_config("num_fewshot"), getattr(task, "sampler", None)
    if plan.num_fewshot is None or type(sampler) not in SAMPLER_REGISTRY.values():
        return
    from_tested = task.fewshot_cfg.split == task.get_config("test_split")  # then a question is not its own example
    held = max(len(sampler.df) - from_tested, 0)
    if asked > held:
        raise UserError(
            f"--num_fewshot {asked} is more than the {counted(held, 'solved example')} that --tasks {name} has for a "
            f"question: give {held} at most"
        )
