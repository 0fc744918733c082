"""scripts/sweep.py: which cells it makes of a file and flags, and what it says of those that fail."""

import json
import shlex
import sys
from importlib import import_module
from pathlib import Path

import pytest

from scripts import sweep
from scripts.sweep import Cell, cells, words_for
from tests.scripts.running import ROOT, environment, results
from utils.errors import UserError

SWEEP = {
    "models": ["smollm2", "./checkpoints/other/"],
    "tasks": ["ruler/vt"],
    "lengths": [2048, 8192],
    "methods": ["vanilla", "lm_infinite"],
    "arguments": {"num_samples": 20, "silent": True, "depths": [0, 0.5], "needles": None},
    "where": [
        {"lengths": [8192], "arguments": {"num_samples": 5}},
        {"lengths": [8192], "methods": ["lm_infinite"], "arguments": {"silent": False, "local_branch": 64}},
    ],
}


@pytest.fixture
def file(tmp_path):
    def write(value):
        path = tmp_path / "sweep.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return path

    return write


@pytest.fixture
def run(monkeypatch, capfd):
    """Call the script; what it printed, with what its cells did."""

    def call(*words):
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["scripts/sweep.py", *map(str, words)])
        sweep.main()
        return capfd.readouterr().out

    return call


def test_every_combination_is_a_cell_with_what_where_says_of_it():
    found = cells({"script": "eval_downstream_tasks", **SWEEP})
    assert len(found) == len({cell.name for cell in found}) == 8
    place = "--model smollm2 --dataset ruler/vt --max_length"
    assert found[0].name == "smollm2--ruler_vt--2048--vanilla"
    assert " ".join(found[0].arguments) == f"--num_samples 20 --silent --depths 0 0.5 {place} 2048 --method vanilla"
    assert found[3].name == "smollm2--ruler_vt--8192--lm_infinite"
    arguments = "--num_samples 5 --depths 0 0.5 --local_branch 64"
    assert " ".join(found[3].arguments) == f"{arguments} {place} 8192 --method lm_infinite"
    assert found[4].name == "other--ruler_vt--2048--vanilla" and "./checkpoints/other/" in found[4].arguments
    (stream,) = cells({"script": "eval_infinite_ppl", "lengths": [500]})
    assert stream == Cell("500", ("--streaming_length", "500"))
    assert cells({"script": "eval_generation"}) == [Cell("eval_generation", ())]


def test_dry_run_prints_commands_that_a_shell_can_run(file, run, tmp_path):
    (tmp_path / "a model").mkdir()
    out = run(
        file(SWEEP), "--models", tmp_path / "a model", "--log_root", tmp_path / "log", "--dry-run", "--", "--seed", 3
    )
    commands = [shlex.split(line.partition(": ")[2]) for line in out.splitlines()]
    assert len(commands) == 4 and not (tmp_path / "log").exists()
    assert commands[0][:2] == [sys.executable, str(ROOT / "scripts" / "eval_downstream_tasks.py")]
    assert commands[0][-4:] == ["--seed", "3", "--log_dir", str(tmp_path / "log" / "a model--ruler_vt--2048--vanilla")]
    assert out.startswith("[1/4] a model--ruler_vt--2048--vanilla: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--tasks", "passkey_retrieval", "passkey"), "passkey--vanilla: --dataset passkey is no task; there are: "),
        (("--models", "constant_model", "./nowhere"), r"nowhere--vanilla: --model ./nowhere: there is no such folder"),
        (("--", "--num_samples", "0"), "vanilla: argument --num_samples: must be at least 1, not 0"),
        (
            ("--script", "eval_infinite_ppl", "--methods", "window", "truncate"),
            "truncate: --method truncate is not for",
        ),
    ],
)
def test_a_mistake_in_one_cell_is_said_before_the_first_starts(words, said, run, tmp_path):
    with pytest.raises(UserError, match=f"^no cell was started: {said}"):
        run("--methods", "vanilla", "--log_root", tmp_path / "log", *words)
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "configs" / "sweeps").iterdir()))
def test_the_sweeps_that_come_with_the_code_are_legal(name, run, monkeypatch, tmp_path):
    out = run(ROOT / "configs" / "sweeps" / name, "--log_root", tmp_path, "--dry-run")
    for line in out.splitlines():
        command = shlex.split(line.partition(": ")[2])
        monkeypatch.setattr(sys, "argv", command[1:])
        script = import_module(f"scripts.{Path(command[1]).stem}")
        assert script.parse_arguments().model == "smollm2"


def test_launcher(run, tmp_path):
    words = ("--methods", "vanilla", "--log_root", tmp_path)
    assert ": deepspeed --num_gpus 1 /" in run(*words, "--launcher", "deepspeed --num_gpus 1", "--dry-run")
    with pytest.raises(UserError, match="--launcher ./nowhere -x cannot be run"):
        run(*words, "--launcher", "./nowhere -x")


def test_finished_cells_are_skipped_and_failed_ones_named(file, run, tiny_tokenizer_dir, tmp_path, monkeypatch):
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    general = {"tokenizer_path": str(tiny_tokenizer_dir), "num_samples": 1, "max_length": 700}
    words = (file({"models": ["constant_model", "nowhere"], "arguments": general}), "--log_root", tmp_path / "log")
    with pytest.raises(UserError, match=r"^1 of 2 cells failed: nowhere \(status 2\)$"):
        run(*words)
    assert results(tmp_path / "log" / "constant_model")["examples"] == 1
    out = run(*words, "--models", "constant_model")
    assert out == "[1/1] constant_model: finished\n"
    with pytest.raises(UserError, match=r"constant_model \(finished with other arguments"):
        run(*words, "--models", "constant_model", "--", "--seed", 1)
    (tmp_path / "log" / "constant_model" / "results.json").write_text("")
    with pytest.raises(UserError, match=r"1 of 1 cells failed: constant_model \(.*results.json cannot be read as JSON"):
        run(*words, "--models", "constant_model")


@pytest.mark.parametrize(
    "value, words",
    [
        ("{", "is not valid JSON"),
        ([], "must be a JSON object with some of script, models"),
        ({"model": ["a"]}, "has 'model', which is none of script, models"),
        ({"models": "a"}, "models must be a list of names"),
        ({"lengths": [True]}, "lengths must be a list of whole numbers"),
        ({"lengths": []}, "lengths must be a list of whole numbers"),
        ({"script": "diagnose"}, "script must be one of eval_downstream_tasks"),
        ({"arguments": {"x": {}}}, "arguments must be an object from flags"),
        ({"where": {}}, "where must be a list"),
        ({"where": [{"task": ["a"]}]}, "an entry of where has 'task'"),
        ({"models": [".."]}, "models of the sweep: '..' names no folder"),
        ({"tasks": [".."]}, "tasks of the sweep: '..' names no folder"),
        ({"models": ["\ud800"]}, "models has '\\ud800', which is no text"),
        ({"models": ["a/b", "c/b"]}, "2 cells of the sweep would share the log dir b"),
    ],
)
def test_bad_files_are_one_sentence(value, words, file, run):
    with pytest.raises(UserError) as refusal:
        run(file(value), "--dry-run")
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_file_that_is_not_there(run):
    with pytest.raises(UserError, match="sweep nowhere.json cannot be read"):
        run("nowhere.json")


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("vanilla", ("--num_samples", "2", "--no_compile", "--silent")),
        ("truncate", ("--local_branch", "256", "--num_samples", "2", "--no_compile", "--silent")),
        (
            "lm_infinite",
            ("--local_branch", "256", "--global_branch=4", "--num_samples", "2", "--no_compile", "--silent"),
        ),
        (None, ("--local_branch", "256", "--global_branch=4", "--num_samples", "2", "--no_compile", "--silent")),
    ],
)
def test_flags_of_lambda_attention_go_to_methods_that_have_it(method, words):
    extra = ("--local_branch", "256", "--global_branch=4", "--num_samples", "2", "--no_compile", "--silent")
    cell = Cell("cell", ("--max_length", "9") + (("--method", method) if method else ()))
    assert words_for(cell, extra) == words
