"""The benchmark of kills: a round of a real script, and that it notices a difference and a hang."""

import json
import sys

import pytest

from benchmarks import kills
from benchmarks.killing.cases import CASES, TEXTS, Case, prepare
from benchmarks.killing.comparing import content, differences
from benchmarks.killing.processes import have_ended
from benchmarks.killing.rounds import ALL, LAUNCHER, RANK, Outcome, Rounds
from benchmarks.killing.runs import SETTINGS
from utils.errors import UserError
from utils.trials.experiments import EXPERIMENTS


@pytest.fixture(scope="module")
def rounds(tmp_path_factory):
    """Of one rank, whose undisturbed trial is there."""
    folder = tmp_path_factory.mktemp("kills")
    prepare(folder, seed=0)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        rounds = Rounds(Case("eval_ppl_deepspeed"), folder, folder / "case", seed=0)
        rounds.begin()
        yield rounds


@pytest.fixture
def fresh(rounds):
    rounds.outcome = Outcome(rounds.case.name, rounds=rounds.outcome.rounds)
    return rounds


def test_a_round_kills_work_and_finds_no_difference(fresh):
    fresh.round(2)
    outcome = fresh.outcome
    assert fresh.lines == TEXTS and outcome.kills == {ALL: outcome.hits} and outcome.hits + outcome.missed == 2
    assert outcome.hits and outcome.differences == outcome.hangs == []
    said = (fresh.folder / f"round_{outcome.rounds - 1}.txt").read_text()
    assert said.count(f"{TEXTS} documents of") == 3  # two that were killed, and one to the end


@pytest.mark.parametrize("name", ["results.json", "samples.jsonl", "nll.npz"])
def test_a_difference_is_noticed(fresh, name, monkeypatch):
    monkeypatch.setattr("benchmarks.killing.comparing.content", lambda path: seen_otherwise(path, name))
    fresh.round(0)
    assert fresh.outcome.differences == [f"round_{fresh.outcome.rounds - 1}: {name}"] and not fresh.outcome.hangs


def seen_otherwise(path, name):
    return (content(path), path if path.name == name else None)


def test_a_hang_is_noticed_and_ended(fresh, monkeypatch):
    monkeypatch.setattr(fresh, "finishes_within", 0.0)
    started, start = [], fresh.start
    monkeypatch.setattr(fresh, "start", lambda name: started.append(start(name)) or started[-1])
    fresh.round(1)
    first, last = fresh.outcome.hangs
    assert "does no work" in first and "does not end" in last and not fresh.outcome.hits
    assert all(have_ended(run.processes, 0) for run in started)


def test_numbers_are_compared_to_the_last_bit_and_measurements_not(tmp_path):
    for name, nll in (("one", 0.1), ("same", 0.1), ("other", 0.1 + 2**-56)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps({"nll": nll, "seconds": len(name)}))
    assert differences(tmp_path / "same", tmp_path / "one") == []
    assert differences(tmp_path / "other", tmp_path / "one") == ["results.json"]
    (tmp_path / "same" / "left.partial").touch()
    assert differences(tmp_path / "same", tmp_path / "one") == ["left.partial is only in one"]


def test_every_script_is_killed_alone_on_two_ranks_and_sharded():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    for script in ("eval_ppl_deepspeed", "eval_infinite_ppl", "eval_generation", "eval_downstream_tasks", "diagnose"):
        assert {f"{script}, 1 rank", f"{script}, 2 ranks", f"{script}, 2 ranks, ZeRO-3"} <= set(names)


def test_the_table_counts_kills_by_what_was_killed():
    outcomes = [Outcome("a", 1, {ALL: 2, LAUNCHER: 1}), Outcome("b", 2, {RANK: 3}, 1, ["round_0: nll.npz"], ["x"])]
    *_, total = kills.table(outcomes).splitlines()
    assert total.split() == ["all", "3", "6", "2", "3", "1", "1", "1", "1"]


def test_the_whole_script_says_what_was_wrong(monkeypatch, tmp_path, capsys):
    outcome = Outcome("one", 1, {ALL: 1}, differences=["round_0: nll.npz"])
    monkeypatch.setattr(kills, "run_case", lambda *_: outcome)
    monkeypatch.setattr(sys, "argv", ["kills.py", "--cases", "diagnose, 1 rank", "--out", str(tmp_path)])
    with pytest.raises(UserError, match="1 fault: see above"):
        kills.main()
    (case,) = json.loads((tmp_path / "kills_cpu.json").read_text())["cases"]
    assert case["differences"] == outcome.differences and "wrote" in capsys.readouterr().out


def test_a_word_that_no_case_has_is_refused():
    with pytest.raises(UserError, match="--cases nothing: no case has any of these in its name"):
        kills.choose(["nothing"])


def test_every_script_is_killed():
    assert {case.script for case in CASES} == set(EXPERIMENTS)
