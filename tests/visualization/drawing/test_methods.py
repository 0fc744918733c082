"""Trials of examples, set side by side: how they are joined and grouped, and which cannot be."""

import pytest

from tests.scripts.example_trials import task_sample, write_lines, write_task_trial
from tests.visualization.example_files import lambda_flags, write_lengths
from utils.errors import UserError
from visualization.drawing.methods import group_starts, load_methods, mean_lengths


def test_trials_of_a_method_are_one_and_so_are_log_dirs_of_one_label(task_dirs):
    methods = load_methods(task_dirs)
    assert [(method.label, len(method.trials), method.length) for method in methods] == [
        ("vanilla", 3, 16000),
        ("Λ-attention", 3, 16000),
    ]
    methods = load_methods(task_dirs, ["a", "b", "b", "Λ", "Λ", "Λ"])
    assert [(method.label, len(method.trials)) for method in methods] == [("a", 1), ("b", 2), ("Λ", 3)]


def test_lengths_are_grouped_alike_for_all_methods(task_dirs, tmp_path):
    methods = load_methods(task_dirs)
    assert group_starts(methods).tolist() == [1991, 3991, 15991]
    assert mean_lengths(methods, group_starts(methods)).tolist() == [1995.5, 3995.5, 15995.5]
    many = load_methods([str(write_lengths(tmp_path / "many", range(1000, 9000, 50)))])
    assert 6 < len(group_starts(many)) <= 12


def test_what_cannot_be_set_side_by_side(tmp_path):
    one = str(write_lengths(tmp_path / "one", [500]))
    same = str(write_lengths(tmp_path / "same", [500]))
    infinite = str(write_lengths(tmp_path / "infinite", [500], **lambda_flags()))
    wider = str(write_lengths(tmp_path / "wider", [500], **lambda_flags(999)))
    other_task = str(write_task_trial(tmp_path / "task", [1.0], task="qasper"))
    write_lines(tmp_path / "task" / "samples.jsonl", [task_sample(0, 1.0, task="qasper")])
    for log_dirs, labels, message in (
        ([one, one], None, "one is given twice"),
        ([one, same], None, "same has an example that another trial called 'vanilla' has, too"),
        ([one, infinite], ["a", "a"], "both called 'a' and differ in their method"),
        ([infinite, wider], None, "both called 'Λ-attention' and differ in their Λ-attention"),
        ([one, other_task], None, "one is of passkey_retrieval and .*task of qasper"),
        ([one], ["a", "b"], "--labels: 2 given for 1"),
    ):
        with pytest.raises(UserError, match=message):
            load_methods(log_dirs, labels)
    assert len(load_methods([infinite, wider], ["4096", "999"])) == 2


def test_a_trial_of_failures_only(tmp_path):
    with pytest.raises(UserError, match="all examples of .*failed failed"):
        load_methods([str(write_task_trial(tmp_path / "failed", [None, None]))])
