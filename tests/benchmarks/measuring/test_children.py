"""Measurements in processes of their own: what comes back, and what becomes of a failure."""

import json
import os
import subprocess

import pytest
import torch

from benchmarks.measuring import children
from benchmarks.measuring.children import answer, attempt, measure_apart, measure_case
from models.attention.prefill import measured
from utils.errors import UserError

SCRIPT = """
import json, os, signal, sys
case = json.loads(sys.argv[sys.argv.index("--case") + 1])
print("said on the way")
if case["do"] == "refuse":
    print("a warning\\nerror: --model x: there is none", file=sys.stderr)
    sys.exit(2)
if case["do"] == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if case["do"] == "raise":
    raise KeyError("of the script")
print(json.dumps([{"twice": 2 * case["number"], "process": os.getpid()}, []]))
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return str(path)


def test_a_case_is_measured_in_a_process_of_its_own(script):
    first, second = (measure_apart(script, {"do": "measure", "number": 21}) for _ in range(2))
    assert first["twice"] == 42 and first["process"] != second["process"]


def test_a_sentence_of_the_child_is_one_of_the_parent(script):
    with pytest.raises(UserError, match="^--model x: there is none$"):
        measure_apart(script, {"do": "refuse"})


def test_a_child_that_the_system_kills_had_no_memory(script):
    assert measure_apart(script, {"do": "die"}) is None


def test_a_traceback_of_the_child_is_shown(script, capsys):
    with pytest.raises(subprocess.CalledProcessError):
        measure_apart(script, {"do": "raise"})
    assert "KeyError: 'of the script'" in capsys.readouterr().err


def test_only_want_of_memory_is_no_answer(capsys):
    def no_memory(case):
        raise torch.OutOfMemoryError("none left")

    def broken(case):
        raise RuntimeError("shapes do not fit")

    answer(no_memory, {})
    assert json.loads(capsys.readouterr().out)[0] is None
    assert attempt(lambda case: {"is": case["is"]}, {"is": 1}) == {"is": 1}
    with pytest.raises(RuntimeError, match="do not fit"):
        attempt(broken, {})


def test_what_a_child_has_chosen_is_known_here(monkeypatch, capsys):
    monkeypatch.setattr(measured, "_found", {})
    kind = measured.Kind("float32", 4, 2, 8, 8, 300, 4, False, ("blockwise", "edges"))
    chosen = measured.Measured("edges", {"blockwise": 2.0, "edges": 1.0}, "a processor")

    def measure(case):
        measured._found[kind] = chosen
        return {"is": 1}

    answer(measure, {})
    printed = capsys.readouterr().out
    measured._found.clear()
    run = subprocess.CompletedProcess([], 0, stdout=printed)
    monkeypatch.setattr(children, "run_child", lambda command, **options: run)
    assert measure_apart("script", {}) == {"is": 1}
    assert [(x["backend"], x["where"]) for x in measured.found()] == [("edges", "a processor")]


def test_a_gpu_has_its_cases_in_this_process_and_the_cpu_in_others(script, monkeypatch):
    released = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: released.append(1))

    def measure(case):
        if case["number"] == 0:
            raise torch.OutOfMemoryError("none left")
        return {"process": os.getpid()}

    case = {"device": "cuda", "do": "measure", "number": 21}
    assert measure_case(script, measure, case) == {"process": os.getpid()}
    assert measure_case(script, measure, {**case, "number": 0}) is None and len(released) == 2
    apart = measure_case(script, measure, {**case, "device": "cpu"})
    assert apart["twice"] == 42 and apart["process"] != os.getpid() and len(released) == 2
