"""Exponents: that known ones are found, which lengths count, and the whole script on a tiny shape."""

import json
import sys

import numpy as np
import pytest
import torch

from benchmarks import growth
from benchmarks.alternatives.methods import DENSE, METHODS, OURS
from benchmarks.growth import exponents, fit_exponent, time_rows
from benchmarks.measuring import timing
from benchmarks.measuring.shapes import Shape

LENGTHS = np.array([512.0, 1024, 4096, 8192, 65_536])


@pytest.fixture
def tiny(monkeypatch):
    """A shape that takes no time in place of SmolLM2's."""
    shape = Shape("tiny", 2, 1, 16, local_branch=64, global_branch=4)
    monkeypatch.setitem(growth.SHAPES, "smollm2", shape)
    monkeypatch.setattr(timing, "FLOOR_SIZE", 64)
    monkeypatch.setattr(growth, "product_rate", lambda timing: 1e9)
    return shape


def row(method, length, **numbers):
    return {"panel": "tiny, float32", "method": method, "length": length, **numbers}


def test_a_power_law_is_found_whatever_its_factor():
    fit = fit_exponent(LENGTHS, 3.7 * LENGTHS**1.7)
    assert fit["exponent"] == pytest.approx(1.7) and fit["standard_error"] < 1e-9


def test_the_standard_error_is_that_of_least_squares():
    seconds = LENGTHS**2 * np.exp([0.1, -0.2, 0.05, 0.3, -0.1])
    slope, covariance = np.polyfit(np.log(LENGTHS), np.log(seconds), 1, cov=True)
    fit = fit_exponent(LENGTHS, seconds)
    assert fit["exponent"] == pytest.approx(slope[0])
    assert fit["standard_error"] == pytest.approx(covariance[0, 0] ** 0.5)


def test_two_points_have_an_exponent_but_no_error_and_one_has_none():
    assert fit_exponent([10, 20], [1, 4]) == {"exponent": pytest.approx(2), "standard_error": None}
    assert exponents([row(OURS, 64, seconds=1.0)]) == []


def test_the_longest_lengths_count_and_what_is_not_positive_does_not():
    times = [row(OURS, 2**n, seconds={"median": 100.0 if n == 5 else 2.0**n}) for n in range(5, 10)]
    memory = [row(OURS, 2**n, memory_mib={"median": -1.0 if n == 9 else 4.0**n}) for n in range(6, 10)]
    in_time, in_memory = exponents(times + memory)
    assert in_time["lengths"] == [64, 128, 256, 512] and in_time["exponent"] == pytest.approx(1)
    assert in_memory["lengths"] == [64, 128, 256] and in_memory["exponent"] == pytest.approx(2)
    assert in_memory["quantity"] == "memory_mib"


def test_times_are_measured_until_they_would_take_too_long(tiny, monkeypatch):
    case = {"panel": "tiny, float32", "shape": "smollm2", "dtype": "float32", "device": "cpu"}
    monkeypatch.setitem(growth.METHODS, DENSE, METHODS[DENSE].__class__(METHODS[DENSE].attend, 60))
    rows = time_rows(case, [64, 128, 256], repeats=1, budget=1000.0)
    lengths = {method: [row["length"] for row in rows if row["method"] == method] for method in (OURS, DENSE, "floor")}
    assert lengths == {OURS: [64, 128, 256], DENSE: [64], "floor": [64, 128, 256]}
    assert rows[-1]["seconds"] == tiny.flops(256) / 1e9


def test_a_length_and_a_quarter_of_it_are_timed_in_turn(tiny, monkeypatch):
    seconds = {64: 1.0, 256: 4.5}
    monkeypatch.setattr(timing, "seconds_of", lambda run, device: seconds[run.args[0].shape[-2]])
    case = {"panel": "tiny, float32", "shape": "smollm2", "dtype": "float32", "device": "cpu"}
    (found,) = growth.quadrupled(case, 256, repeats=3)
    assert (found["length"], found["ratio"], found["whole"]["repeats"]) == (256, 4.5, 3)

    def seconds_of(run, device):
        if run.args[0].shape[-2] == 256:
            raise torch.OutOfMemoryError("out of memory")
        return 1.0

    monkeypatch.setattr(timing, "seconds_of", seconds_of)
    assert growth.quadrupled(case, 256, repeats=3) == []


def test_the_script_on_a_tiny_shape(tiny, monkeypatch, capsys):
    saved = {}
    memory = [row("published", n, memory_mib={"median": n / 10}) for n in (128, 256)]
    memory += [row(OURS, n, memory_mib={"median": 0.5}) for n in (128, 256)]
    monkeypatch.setattr(growth, "memory_rows", lambda case, *settings: memory)
    monkeypatch.setattr(growth, "save_results", lambda folder, name, device, results: saved.update(results))
    command = "growth.py --dtypes float32 --lengths 128 256 512 --quadrupled 1024 --repeats 1"
    monkeypatch.setattr(sys, "argv", command.split())
    growth.main()
    found = {(fit["method"], fit["quantity"]): fit["exponent"] for fit in saved["exponents"]}
    assert set(found) == {(OURS, "seconds"), (DENSE, "seconds"), ("floor", "seconds")} | {
        (method, "memory_mib") for method in (OURS, "published")
    }
    assert found["published", "memory_mib"] == pytest.approx(1) and found[OURS, "memory_mib"] == pytest.approx(0)
    printed = capsys.readouterr().out
    assert "256 tokens: 51.2 times less working memory than the published algorithm" in printed
    assert "1,024 tokens take " in printed and " times as long as 256" in printed
    assert json.dumps(saved)
