"""What is a change of a trial: not an argument that is younger than the trial and leaves all as it was."""

import copy
import gc
import importlib
import sys

import pytest

from models.lambda_attention import LambdaConfig
from tests.docs.sources import commands
from tests.scripts.running import results
from tests.scripts.streaming.stream_trials import killed_at, write_texts
from utils.errors import UserError
from utils.trials.changes import AS_BEFORE, FREE_ARGUMENTS, differences
from utils.trials.trial import Trial

SCRIPT = "eval_ppl_deepspeed"
LAMBDA = ("--use_lambda_attention", "--local_branch", 16, "--global_branch", 4, "--limit_distance", 16)
ALWAYS_THERE = frozenset(
    """model tasks dataset split max_length streaming_length document_separator evaluate_positions max_generation_length
    num_queries num_bins num_positions first_tokens window num_hidden use_lambda_attention local_branch global_branch
    limit_distance""".split()
)
"""Arguments of the first versions, which every trial knows, so that no value stands for their absence."""


def changes(before, now, attention=({}, {})):
    old, new = ({"arguments": {}, "lambda_attention": settings} for settings in attention)
    return differences(old | {"arguments": before}, {"lambda_attention": new["lambda_attention"]}, now)


@pytest.mark.parametrize("value", [None, False, 0, [], ""])
def test_what_is_off_is_no_change_of_a_trial_that_does_not_know_it(value):
    assert changes({}, {"new_flag": value}) == changes({"old_flag": value}, {}) == []


def test_what_is_on_is_one_and_values_that_both_know_must_be_the_same():
    assert changes({}, {"new_flag": 3}) == ["--new_flag was None and is 3 now"]
    assert changes({"window_layers": None}, {"window_layers": "own"}) == ["--window_layers was None and is 'own' now"]
    assert changes({}, {"window_layers": "own"}) == []
    assert changes({}, {"window_layers": "lambda"}) == ["--window_layers was None and is 'lambda' now"]


@pytest.mark.parametrize("name", sorted(LambdaConfig(4, 2).to_dict().keys() - ALWAYS_THERE))
def test_every_younger_setting_of_lambda_attention_may_be_missing(name):
    now = LambdaConfig(4, 2).to_dict()
    before = {key: value for key, value in now.items() if key != name}
    assert changes({}, {}, (before, now)) == []


def test_other_settings_of_lambda_attention_are_changes_but_for_compiling():
    now = LambdaConfig(4, 2, sink_positions="cache", limit_distance=None, compiled=False).to_dict()
    before = LambdaConfig(4, 2, limit_distance=None).to_dict()
    del before["sink_positions"]
    assert changes({}, {}, (before, now)) == ["lambda_attention sink_positions was None and is 'cache' now"]


NEEDED = {"eval_infinite_ppl": (), "eval_lm_harness": ("--tasks", "one")}


def parsed(script, monkeypatch, *flags):
    needed = NEEDED.get(script, ("--max_length", "20000"))
    monkeypatch.setattr(sys, "argv", [script, *needed, *map(str, flags)])
    return vars(importlib.import_module(f"scripts.{script}").parse_arguments())


EXPERIMENTS = [name for path in commands() if "eval_" in (name := path[8:-3]) and path.startswith("scripts/")]


@pytest.mark.parametrize("script", ["diagnose", *EXPERIMENTS])
@pytest.mark.parametrize("flags", [(), ("--use_lambda_attention",)])
def test_of_every_argument_it_is_said_what_its_absence_stands_for(script, flags, monkeypatch):
    """A new flag whose default is a value needs an entry of AS_BEFORE, if that value keeps what was computed."""
    found = parsed(script, monkeypatch, *flags)
    told = FREE_ARGUMENTS | ALWAYS_THERE | {name for name, value in AS_BEFORE.items() if found.get(name) == value}
    assert {name: value for name, value in found.items() if value and name not in told} == {}


def test_a_trial_that_knows_fewer_flags_goes_on(tiny_llama_dir, tmp_path, monkeypatch):
    texts = write_texts(tmp_path / "texts", (30, 20))
    flags = ("--model", tiny_llama_dir, "--dataset", texts, "--max_length", 40, *LAMBDA, "--log_dir", tmp_path / "log")
    begin = Trial.begin
    with monkeypatch.context() as older, killed_at(Trial, "append_samples", 2):
        older.setattr(Trial, "begin", lambda trial, config: begin(trial, without_young_flags(config)))
        run(monkeypatch, *flags)
    assert "window_layers" not in (tmp_path / "log" / "config.json").read_text()
    with pytest.raises(UserError, match="--window_layers was None and is 'lambda' now"):
        run(monkeypatch, *flags, "--window_layers", "lambda")
    run(monkeypatch, *flags)
    assert results(tmp_path / "log")["documents"] == 2


def without_young_flags(config):
    config = copy.deepcopy(config)
    for part in ("arguments", "lambda_attention"):
        for name in ("window_layers", "sink_positions", "rope_scaling"):
            config[part].pop(name, None)
    return config


def run(monkeypatch, *flags):
    gc.collect()  # a trial that an exception left behind holds its lock
    monkeypatch.setattr(sys, "argv", [SCRIPT, *map(str, flags)])
    importlib.import_module(f"scripts.{SCRIPT}").main()
