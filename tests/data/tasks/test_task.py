"""Finding a task, selecting its examples, and refusing what means nothing to it."""

from pathlib import Path

import pytest

from data.tasks.registry import TASKS, get_task, takes_group
from data.tasks.task import TaskRequest, open_examples
from utils.errors import UserError

NAMED = (
    "passkey_retrieval needle_in_a_haystack qasper qasper_plain narrative_qa narrative_qa_plain ruler/vt ruler/qa_2 "
    "zero_scrolls/gov_report zero_scrolls/book_sum_sort"
).split()


@pytest.mark.parametrize("name", NAMED)
def test_registry(name):
    task = get_task(name)
    assert task.name == name
    assert task.max_generation_length > 0
    assert task.metric("answer", ["other"]) in (0, 0.0)


def test_families():
    assert get_task("ruler", "niah_single_1") is TASKS["ruler/niah_single_1"]
    assert get_task("tau/zero_scrolls", "qmsum") is get_task("zero_scrolls", "qmsum") is TASKS["zero_scrolls/qmsum"]
    assert takes_group("ruler") and not takes_group("ruler/vt")
    assert sum(name.startswith("zero_scrolls/") for name in TASKS) == 10


@pytest.mark.parametrize(
    "name, group, message",
    [
        ("quasper", None, "--dataset quasper is no task; there are: passkey_retrieval, .*qasper_plain, .*ruler/qa_2"),
        (
            "ruler",
            None,
            "--dataset ruler needs --dataset_group; there are: niah_single_1, .*, vt, .*qa_2",
        ),
        ("zero_scrolls", "imdb", "has no --dataset_group imdb; there are: gov_report, .*book_sum_sort"),
    ],
)
def test_missing_task(name, group, message):
    with pytest.raises(UserError, match=message):
        get_task(name, group)


def test_selection(open_task, tokenizer):
    every = list(open_task("passkey_retrieval", length=1000, num_samples=5))
    task = TASKS["passkey_retrieval"]
    request = TaskRequest(task.name, count=lambda prompt: len(tokenizer(prompt.text())["input_ids"]), length=1000)
    some = open_examples(task, request, start_data_from=1, max_data_num=3)
    assert list(some) == every[1:4]
    assert [example.index for example in some] == [1, 2, 3]
    assert len(some) == 3
    with pytest.raises(IndexError):
        some[3]
    with pytest.raises(IndexError):
        some[-1]
    assert len(open_examples(task, request, start_data_from=95, max_data_num=30)) == 5


@pytest.mark.parametrize(
    "name, flags, message",
    [
        ("ruler/vt", {"dataset_dir": Path("x")}, "--dataset_dir x means nothing to --dataset ruler/vt"),
        (
            "ruler/niah_single_1",
            {"haystack": "plays"},
            "--haystack plays means nothing to --dataset ruler/niah_single_1",
        ),
        ("ruler/cwe", {"depths": (0.5,)}, "--depths .* means nothing to --dataset ruler/cwe"),
        ("qasper", {"num_samples": 4}, "--num_samples 4 means nothing to --dataset qasper"),
        ("narrative_qa", {"first_half": True}, "--first_half means nothing to --dataset narrative_qa"),
        ("ruler/vt", {"split": "train"}, "--split train means nothing to --dataset ruler/vt"),
        ("ruler/vt", {"num_samples": 0}, "--num_samples 0 is too small"),
        ("ruler/vt", {"length": 0}, "--max_length 0 is too small"),
    ],
)
def test_refused(open_task, name, flags, message):
    with pytest.raises(UserError, match=message):
        open_task(name, **{"length": 3000, **flags})


def test_start_beyond_the_end(open_task, tokenizer):
    task = TASKS["passkey_retrieval"]
    request = TaskRequest(task.name, count=lambda prompt: 1, length=1000, num_samples=4)
    message = "--start_data_from 4 is beyond the end of --dataset passkey_retrieval: it holds 4 examples"
    with pytest.raises(UserError, match=message):
        open_examples(task, request, start_data_from=4)
