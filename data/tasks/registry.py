"""Every downstream task under one name: `get_task("qasper")`, `get_task("ruler/vt")`, `get_task("ruler", "vt")`."""

from data.tasks import narrative_qa, needle_in_a_haystack, passkey_retrieval, qasper, zero_scrolls
from data.tasks.ruler import aggregation, niah, question_answering, variable_tracking
from data.tasks.task import Task
from utils.errors import UserError, did_you_mean

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        passkey_retrieval.TASK,
        needle_in_a_haystack.TASK,
        qasper.TASK,
        qasper.PLAIN_TASK,
        narrative_qa.TASK,
        narrative_qa.PLAIN_TASK,
        *niah.TASKS,
        variable_tracking.TASK,
        aggregation.COMMON,
        aggregation.FREQUENT,
        *question_answering.TASKS,
        *zero_scrolls.TASKS,
    )
}
FAMILIES = {"ruler": "ruler", "zero_scrolls": "zero_scrolls", "tau/zero_scrolls": "zero_scrolls"}
"""Names that --dataset_group completes; the last is the one that the published command has."""


def get_task(name: str, dataset_group: str | None = None) -> Task:
    """The task of a --dataset; `dataset_group` counts if that is a family. Raises UserError, which lists the tasks."""
    if name in FAMILIES:
        return _member(name, dataset_group)
    if name not in TASKS:
        raise UserError(f"--dataset {name} is no task; there are: {', '.join(TASKS)}{did_you_mean(name, TASKS)}")
    return TASKS[name]


def takes_group(name: str) -> bool:
    """Whether `get_task` uses up the --dataset_group of this --dataset, so that the task itself gets none."""
    return name in FAMILIES


def _member(name: str, dataset_group: str | None) -> Task:
    family = FAMILIES[name]
    if f"{family}/{dataset_group}" in TASKS:
        return TASKS[f"{family}/{dataset_group}"]
    members = ", ".join(task.partition("/")[2] for task in TASKS if task.startswith(f"{family}/"))
    given = "needs --dataset_group" if dataset_group is None else f"has no --dataset_group {dataset_group}"
    raise UserError(f"--dataset {name} {given}; there are: {members}")
