"""Trials of examples, set side by side: how they are joined and grouped, and which cannot be."""

import pytest

from tests.scripts.example_trials import task_sample, write_lines, write_task_trial
from tests.visualization.example_files import lambda_flags, write_generation, write_lengths
from utils.errors import UserError
from utils.trials.examples import read_trial
from visualization.drawing.lengths import LengthGroups
from visualization.drawing.methods import join_by_method, load_methods


def test_trials_of_a_method_are_one_and_so_are_log_dirs_of_one_label(task_dirs):
    methods = load_methods(task_dirs)
    assert [(method.label, len(method.trials), method.length) for method in methods] == [
        ("vanilla", 3, 16000),
        ("Λ-attention", 3, 16000),
    ]
    methods = load_methods(task_dirs, ["a", "b", "b", "Λ", "Λ", "Λ"])
    assert [(method.label, len(method.trials)) for method in methods] == [("a", 1), ("b", 2), ("Λ", 3)]


def test_lengths_are_grouped_alike_for_all_methods(task_dirs, tmp_path):
    groups = LengthGroups.over(load_methods(task_dirs))
    assert groups.starts.tolist() == [1991, 3991, 15991] and groups.lengths.tolist() == [2000, 4000, 16000]
    mixed = load_methods([str(write_lengths(tmp_path / "mixed", [1991, 2000, 3991, 4000]))])
    assert LengthGroups.over(mixed).lengths.tolist() == [1995.5, 3995.5]
    many = load_methods([str(write_lengths(tmp_path / "many", range(1000, 9000, 50)))])
    assert 6 < len(LengthGroups.over(many).starts) <= 12


def test_prompts_count_as_of_the_requested_length_only_where_they_were_made_for_it(tmp_path):
    long, short = (write_lengths(tmp_path / str(size), [size - 500, size], max_length=size) for size in (4000, 3600))
    assert LengthGroups.over(load_methods([str(long)])).lengths.tolist() == [4000]
    overlapping = LengthGroups.over(load_methods([str(long), str(short)]))
    assert overlapping.lengths.tolist() == [3100, 3500, 3600, 4000]
    beyond = write_lengths(tmp_path / "beyond", [500, 520], max_length=510)
    assert 510 not in LengthGroups.over(load_methods([str(beyond)])).lengths


def test_trials_are_joined_by_method_settings_and_examples(task_dirs, tmp_path):
    one, again = (read_trial(write_lengths(tmp_path / name, [2000], max_length=2000)) for name in ("one", "again"))
    wide = read_trial(write_lengths(tmp_path / "wide", [2000], max_length=2000, **lambda_flags(8192)))
    trials = [*map(read_trial, task_dirs), one, again, wide]
    methods = join_by_method(trials, [f"{place}" for place in range(len(trials))])
    assert [(method.label, len(method.trials)) for method in methods] == [
        ("vanilla, 0", 3),
        ("Λ-attention, 3", 3),
        ("vanilla, 6", 1),
        ("vanilla, 7", 1),
        ("Λ-attention, 8", 1),
    ]
    assert [method.label for method in join_by_method(trials[:6], "abcdef")] == ["vanilla", "Λ-attention"]


def test_texts_are_told_apart_in_name_and_line(tmp_path):
    one, other = (
        write_generation(tmp_path / text, [position], dataset=f"/data/{text}")
        for position, text in ((1000, "plays"), (2000, "books"))
    )
    trials = [read_trial(folder) for folder in (one, other)]
    expected = ["vanilla, plays", "vanilla, books"]
    assert [method.label for method in join_by_method(trials, "ab")] == expected
    assert [method.label for method in load_methods([str(one), str(other)], scripts=("eval_generation",))] == expected


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
