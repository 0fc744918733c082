"""BLEU and ROUGE per position from the generated texts of several log dirs."""

import json

import pytest

from data.text_metrics import UNSEEN
from data.text_metrics.scores import generation_scores
from scripts import combine_evaluate_generation
from tests.scripts import example_trials as trials
from tests.scripts.running import run_script
from utils.errors import UserError

TEXTS = [("the cat sat on the mat", f"the cat sat on the mat {word}") for word in ("at noon", "", "and slept", "too")]


@pytest.fixture
def combine(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["combine_evaluate_generation.py", *map(str, arguments)])
        combine_evaluate_generation.main()
        return capsys.readouterr().out

    return call


@pytest.fixture
def shards(tmp_path):
    """Two shards of two documents; the last one is too short for position 20."""
    documents = [{10: text, 20: text} for text in TEXTS[:3]] + [{10: TEXTS[3]}]
    return [
        trials.write_generation_trial(tmp_path / "b", documents[2:], start=2),
        trials.write_generation_trial(tmp_path / "a", documents[:2], most=2),
    ]


def scores(texts):
    """What a table has of them."""
    return {name: value for name, value in generation_scores(*zip(*texts)).items() if name != UNSEEN}


def test_texts_of_all_shards_count_together(combine, shards):
    near, far = json.loads(combine(*shards, "--format", "json"))
    begin = {"trial": "a (+1)", "method": "vanilla", "model": "tiny"}
    assert near == begin | {"position": 10, "documents": 4, "failed": 0} | scores(TEXTS)
    assert far == begin | {"position": 20, "documents": 3, "failed": 0} | scores(TEXTS[:3])
    assert 0 < near["bleu"] < 1 and near["bleu_standard_error"] > 0


def test_several_trials_in_one_table(combine, tmp_path, shards):
    perfect = trials.write_generation_trial(tmp_path / "perfect", [{10: ("a b c d", "a b c d")}] * 2, seed=1)
    lines = combine(*shards, perfect, "--labels", "ours", "perfect").splitlines()
    assert lines[0].split()[:7] == ["trial", "method", "model", "position", "documents", "failed", "bleu"]
    assert lines[0].split()[7:] == ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    assert [line.split()[0] for line in lines[2:]] == ["ours", "ours", "perfect"]
    assert lines[-1].split()[-3:] == ["1.0000", "±", "0.0000"]


def test_what_failed_is_counted_and_nothing_else(combine, tmp_path):
    log_dir = trials.write_generation_trial(tmp_path / "a", [{10: TEXTS[0], 20: (None, "x")}, {10: (None, "x")}])
    near, far = json.loads(combine(log_dir, "--format", "json"))
    assert (near["documents"], near["failed"], near["rouge1"]) == (2, 1, generation_scores(*zip(TEXTS[0]))["rouge1"])
    assert (far["documents"], far["failed"], far["rouge1"], far["bleu"]) == (1, 1, None, None)
    assert combine(log_dir).splitlines()[-1].split()[-5:] == ["-"] * 5


def test_bad_input(combine, tmp_path, shards):
    task = trials.write_task_trial(tmp_path / "task", [1])
    with pytest.raises(UserError, match="is of eval_downstream_tasks: give trials of eval_generation"):
        combine(*shards, task)
    overlapping = trials.write_generation_trial(tmp_path / "c", [{10: TEXTS[0]}], start=3)
    with pytest.raises(UserError, match=f"document 3 is in both {shards[0]} and {overlapping}"):
        combine(*shards, overlapping)
    lines = (shards[0] / "samples.jsonl").read_text().splitlines()
    (shards[0] / "samples.jsonl").write_text(lines[0] + "\n")
    with pytest.raises(UserError, match=r"samples.jsonl lacks lines of document 2"):
        combine(*shards)
    (shards[0] / "samples.jsonl").write_text(lines[0].replace('"output": "', '"output": 7, "x": "') + "\n")
    with pytest.raises(UserError, match="line 1 has 'output' 7, which must be a text or null"):
        combine(*shards)


def test_as_a_user_calls_it(tmp_path, shards):
    done = run_script("combine_evaluate_generation", *shards, "--out", tmp_path / "table.csv")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (tmp_path / "table.csv").read_text() and done.stdout.startswith(
        "trial,method,model,position,"
    )
    done = run_script("combine_evaluate_generation", tmp_path / "missing")
    assert done.returncode == 2 and done.stderr.startswith("error: log dir") and done.stderr.count("\n") == 1
