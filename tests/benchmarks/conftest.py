"""Measurements that take no time."""

import pytest

from benchmarks.alternatives.methods import DENSE, OURS, PUBLISHED
from benchmarks.measuring import working_memory

SECONDS = {OURS: lambda n: n / 1000, DENSE: lambda n: (n / 1000) ** 2 / 2, PUBLISHED: lambda n: n / 100}


@pytest.fixture
def measured(monkeypatch):
    """The cases of working memory that were measured, by functions of the length instead of processes."""
    cases = []

    def fake(script, measure, case):
        assert script == working_memory.SCRIPT
        cases.append((case["method"], case["length"]))
        if case["method"] == DENSE and case["length"] == 4000:
            return None
        memory = 2.0 * case["length"] if case["method"] == PUBLISHED else 40.0 + cases.count(cases[-1])
        return {"memory_mib": memory, "seconds": SECONDS[case["method"]](case["length"])}

    monkeypatch.setattr(working_memory, "measure_case", fake)
    return cases
