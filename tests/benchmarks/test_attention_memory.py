"""The working memory of one attention layer: measured at a length that takes no time, and what is made of it."""

import json
import sys

import pytest

from benchmarks import attention_memory
from benchmarks.attention_memory import DENSE, METHODS, OURS, PUBLISHED, measure, memory_rows, shares_of_published
from benchmarks.measuring.children import measure_apart
from benchmarks.measuring.shapes import Shape

CASE = {"panel": "SmolLM2-135M, float32", "shape": "smollm2", "dtype": "float32", "device": "cpu"}
SECONDS = {OURS: lambda n: n / 1000, DENSE: lambda n: (n / 1000) ** 2 / 2, PUBLISHED: lambda n: n / 100}


@pytest.fixture
def measured(monkeypatch):
    """The cases that were measured, by functions of the length instead of processes."""
    cases = []

    def fake(script, case):
        assert script == attention_memory.__file__
        cases.append((case["method"], case["length"]))
        if case["method"] == DENSE and case["length"] == 4000:
            return None
        memory = 2.0 * case["length"] if case["method"] == PUBLISHED else 40.0 + cases.count(cases[-1])
        return {"memory_mib": memory, "seconds": SECONDS[case["method"]](case["length"])}

    monkeypatch.setattr(attention_memory, "measure_apart", fake)
    return cases


def test_a_process_of_its_own_tells_its_working_memory_in_mib():
    found = measure_apart(attention_memory.__file__, {**CASE, "method": OURS, "length": 3000})
    assert 1 < found["memory_mib"] < 500 and found["seconds"] > 0


@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_be_measured(method, monkeypatch):
    monkeypatch.setitem(attention_memory.SHAPES, "smollm2", Shape("tiny", 2, 1, 16, local_branch=64, global_branch=4))
    assert measure({**CASE, "method": method, "length": 700})["seconds"] > 0


def test_a_method_ends_where_it_would_take_too_long_or_too_much_memory(measured):
    rows = memory_rows(CASE, [1000, 2000, 4000, 8000], repeats=3, budget=21.0)
    lengths = {method: [row["length"] for row in rows if row["method"] == method] for method in METHODS}
    assert lengths == {OURS: [1000, 2000, 4000, 8000], DENSE: [1000, 2000], PUBLISHED: [1000, 2000]}
    runs = {(row["method"], row["length"]): row["memory_mib"]["repeats"] for row in rows}
    assert runs[OURS, 4000] == 3 and runs[OURS, 8000] == 2  # of 8 seconds each
    assert runs[PUBLISHED, 1000] == 2 and runs[PUBLISHED, 2000] == 1
    assert rows[0]["memory_mib"] == {"median": 42.0, "low": 41.0, "high": 43.0, "repeats": 3}


def test_the_script_tells_how_much_less_than_the_published_algorithm_it_is(measured, monkeypatch, capsys):
    saved = {}
    monkeypatch.setattr(attention_memory, "save_results", lambda name, device, results: saved.update(results))
    words = ["attention_memory.py", "--lengths", "1000", "--repeats", "1", "--dtypes", "float32"]
    monkeypatch.setattr(sys, "argv", words)
    attention_memory.main()
    assert shares_of_published(saved["rows"]) == [("SmolLM2-135M, float32", 1000, 41 / 2000)]
    assert "48.8x" in capsys.readouterr().out
    assert set(saved) == {"title", "quantities", "rows", "lambda_attention"} and json.dumps(saved)
