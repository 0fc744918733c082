"""The device that is measured: runs of a case, the union of kernels, and what only a GPU is asked."""

from types import SimpleNamespace

import pytest
import torch

from benchmarks.measuring import accelerator
from benchmarks.measuring.accelerator import Accelerator, Busy, covered, longest_kernels
from benchmarks.measuring.timing import Timing

CPU, GPU = Accelerator("cpu"), Accelerator("cuda")


def kernel(name, start, end):
    return SimpleNamespace(name=name, time_range=SimpleNamespace(start=start, end=end))


def test_what_kernels_cover_counts_once():
    assert covered([]) == 0
    assert covered([(5, 9), (0, 2), (1, 3), (6, 7), (20, 21)]) == 3 + 4 + 1


def test_kernels_are_listed_by_their_time_in_all():
    events = [kernel("a", 0, 4e6), kernel("b", 0, 3e6), kernel("b", 5e6, 8e6), kernel("c", 0, 1e6)]
    found = longest_kernels(events)
    assert [(one["name"], one["calls"], one["seconds"]) for one in found] == [("b", 2, 6), ("a", 1, 4), ("c", 1, 1)]
    assert len(longest_kernels([kernel(str(n), 0, n) for n in range(99)])) == accelerator.LISTED_KERNELS


def test_the_profiler_sees_what_runs():
    one = torch.ones(256, 256)
    seen = CPU.busy(lambda: [one @ one for _ in range(5)])
    assert 0 < seen.busy <= seen.wall
    assert seen.kernels[0]["name"] == "aten::matmul" and seen.kernels[0]["calls"] == 5
    assert CPU.busy(lambda: None).busy is None
    assert Busy(2.0, 1.0, []).to_dict()["busy_share"] == 0.5 and Busy(2.0, None, []).to_dict()["busy_share"] is None


@pytest.mark.parametrize(
    ("taken", "budget", "expected"),
    [
        ([1.0, 2.0, 3.0, 4.0], 3.0, Timing(3.0, 2.0, 4.0, 3)),  # as many as the budget has
        ([1.0, 2.0, 3.0], 99.0, Timing(2.5, 2.0, 3.0, 2)),  # as many repeats as are asked for
        ([9.0], 3.0, Timing(9.0, 9.0, 9.0, 1)),  # too long: the first alone
    ],
)
def test_repetitions_on_the_cpu(taken, budget, expected, monkeypatch):
    left = list(taken)
    monkeypatch.setattr(accelerator, "seconds_of", lambda run, device: left.pop(0))
    assert CPU.time(print, repeats=2 if budget > 50 else 5, budget=budget) == expected and not left


def test_on_a_gpu_the_first_run_compiles_and_does_not_count(monkeypatch):
    left, first = [0.5, 0.25, 0.75], []
    monkeypatch.setattr(accelerator, "seconds_of", lambda run, device: first.append(device) or 60.0)
    monkeypatch.setattr(Accelerator, "_seconds_on_gpu", lambda self, run: left.pop(0))
    assert GPU.time(print, repeats=3, budget=10.0) == Timing(0.5, 0.25, 0.75, 3) and first == ["cuda"]
    left = [7.0]
    assert GPU.time(print, repeats=3, budget=10.0) == Timing(7.0, 7.0, 7.0, 1)


def test_time_on_a_gpu_is_that_between_two_events(monkeypatch):
    order = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            order.append("event")

        def elapsed_time(self, end):
            return 250.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: order.append("wait"))
    assert GPU._seconds_on_gpu(lambda: order.append("run")) == 0.25
    assert order == ["wait", "event", "run", "event", "wait"]


def test_a_device_that_computes_no_more_does_not_work(monkeypatch):
    assert CPU.works()
    monkeypatch.setattr(torch, "ones", lambda *x, **y: (_ for _ in ()).throw(RuntimeError("illegal memory access")))
    assert not CPU.works()


def test_memory_is_beyond_what_was_there_and_beyond_the_output():
    kept = []
    found = CPU.memory_of(lambda: kept.append(torch.ones(2**23)), output_bytes=2**24)  # 32 MiB, 16 of them output
    assert 12 < found < 24
