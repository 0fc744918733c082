"""Cases within a deadline: in which order, what each leaves behind, and what a second call does again."""

import time

import pytest
import torch

from benchmarks.gpu_parts.case import Case, Part
from benchmarks.gpu_parts.report import Report
from benchmarks.gpu_parts.running import Deadline, LostDeviceError, guarded, run_parts, told
from benchmarks.gpu_parts.sizes import TINY, Plan
from benchmarks.measuring.accelerator import Accelerator
from utils.errors import UserError

PLAN = Plan("cpu", TINY)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.json"


def part(name, cases, share=0.5):
    """cases: by name, seconds that each says it takes and what it does."""
    made = [Case(case, seconds, measure) for case, (seconds, measure) in cases.items()]
    return Part(name, f"{name}?", share, lambda plan: iter(made))


def run(path, *parts, seconds=100.0, said=None):
    report = Report(path, PLAN)
    run_parts(parts, PLAN, report, Deadline(time.monotonic(), seconds), ([] if said is None else said).append)
    return {(part, case): found for part, case, found in report.every_case()}


def raising(error):
    def measure():
        raise error

    return measure


def test_what_one_raises_is_what_it_found_and_the_rest_goes_on(path):
    said = []
    cases = {
        "memory": (1, raising(torch.OutOfMemoryError("tried to allocate 9 GiB\nmore"))),
        "broken": (1, raising(ValueError("no such kernel"))),
        "impossible": (1, raising(UserError("it needs a GPU"))),
        "good": (1, lambda: {"speed": 2.0}),
    }
    found = run(path, part("one", cases), said=said)
    assert [one["state"] for one in found.values()] == ["failed", "failed", "refused", "measured"]
    assert [one.get("why") for one in found.values()] == [
        "out of memory: tried to allocate 9 GiB\nmore",
        "ValueError: no such kernel",
        "it needs a GPU",
        None,
    ]
    assert found["one", "broken"]["where"][-1].startswith("tests/benchmarks/gpu_parts/test_running.py:")
    assert said[0] == "one: memory: failed: out of memory: tried to allocate 9 GiB"
    assert said[-1] == "one: good: speed 2"


def test_what_would_pass_the_deadline_is_not_begun(path):
    begun = []
    found = run(path, part("one", {"long": (1000, lambda: begun.append(1) or {}), "short": (1, dict)}), seconds=50)
    assert not begun and found["one", "short"]["state"] == "measured"
    long = found["one", "long"]
    assert long["state"] == "not reached" and long["why"].startswith("it takes about 1000 seconds, and ")


def test_a_part_that_takes_more_than_its_share_goes_on_after_the_others(path):
    order = []

    def noting(name):
        return lambda: order.append(name) or {}

    first = part("one", {"a": (1, noting("a")), "b": (60, noting("b")), "c": (1, noting("c"))})
    run(path, first, part("two", {"d": (1, noting("d"))}))
    assert order == ["a", "c", "d", "b"]


def test_a_second_call_measures_what_is_missing_alone(path):
    times = []
    cases = {"good": (1, lambda: times.append("good") or {}), "bad": (1, raising(ValueError("no")))}
    run(path, part("one", {**cases, "late": (1000, lambda: times.append("late") or {})}))
    found = run(path, part("one", {**cases, "late": (1, lambda: times.append("late") or {})}))
    assert times == ["good", "late"]
    assert [one["state"] for one in found.values()] == ["measured", "failed", "measured"]


def test_a_case_in_which_the_process_ends_is_tried_once_more(path):
    def ends():
        raise KeyboardInterrupt

    cases = {"deadly": (1, ends), "good": (1, dict)}
    for tries in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            run(path, part("one", cases))
        assert Report(path, PLAN).cases("one")["deadly"]["tries"] == tries
    found = run(path, part("one", cases))
    assert found["one", "deadly"]["why"] == "the process ended 2 times while it was measured"
    assert found["one", "good"]["state"] == "measured"


def test_a_device_that_is_lost_ends_the_process_after_the_case_is_kept(path, monkeypatch):
    monkeypatch.setattr(Accelerator, "works", lambda self: False)
    with pytest.raises(LostDeviceError):
        run(path, part("one", {"good": (1, dict), "bad": (1, raising(RuntimeError("illegal access")))}))
    cases = Report(path, PLAN).cases("one")
    assert [found["state"] for found in cases.values()] == ["measured", "failed"]


def test_an_outcome_in_a_line():
    assert told({"state": "measured", "error": 0.5, "passed": True, "tries": 3}) == "error 0.5, within its bound"
    assert told({"state": "measured", "error": 0.5, "passed": False}) == "error 0.5, BEYOND ITS BOUND"


def test_an_interrupt_is_no_finding():
    with pytest.raises(KeyboardInterrupt):
        guarded(Case("a", 1, raising(KeyboardInterrupt())))
