"""The working memory of one attention layer: measured at a length that takes no time, and until which length."""

import pytest

from benchmarks.alternatives.methods import DENSE, METHODS, OURS, PUBLISHED
from benchmarks.measuring.children import measure_apart
from benchmarks.measuring.shapes import SHAPES, Shape
from benchmarks.measuring.working_memory import SCRIPT, measure, memory_rows

CASE = {"panel": "SmolLM2-135M, float32", "shape": "smollm2", "dtype": "float32", "device": "cpu"}


def test_a_process_of_its_own_tells_its_working_memory_in_mib():
    found = measure_apart(SCRIPT, {**CASE, "method": OURS, "length": 3000})
    assert 1 < found["memory_mib"] < 500 and found["seconds"] > 0


@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_be_measured(method, monkeypatch):
    monkeypatch.setitem(SHAPES, "smollm2", Shape("tiny", 2, 1, 16, local_branch=64, global_branch=4))
    assert measure({**CASE, "method": method, "length": 700})["seconds"] > 0


def test_a_method_ends_where_it_would_take_too_long_or_too_much_memory(measured):
    rows = memory_rows(CASE, [1000, 2000, 4000, 8000], repeats=3, budget=21.0)
    lengths = {method: [row["length"] for row in rows if row["method"] == method] for method in METHODS}
    assert lengths == {OURS: [1000, 2000, 4000, 8000], DENSE: [1000, 2000], PUBLISHED: [1000, 2000]}
    runs = {(row["method"], row["length"]): row["memory_mib"]["repeats"] for row in rows}
    assert runs[OURS, 4000] == 3 and runs[OURS, 8000] == 2  # of 8 seconds each
    assert runs[PUBLISHED, 1000] == 2 and runs[PUBLISHED, 2000] == 1
    assert rows[0]["memory_mib"] == {"median": 42.0, "low": 41.0, "high": 43.0, "repeats": 3}
