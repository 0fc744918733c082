"""In which order cases are timed, and how often."""

import torch

from benchmarks.measuring import timing
from benchmarks.measuring.timing import MM, ONEDNN, Timing, product_cases, product_rate, time_in_turn

SECONDS = {"fast": 1.0, "slow": 3.0, "endless": 50.0}


def timed(monkeypatch, **options):
    """The order of all runs, and the timings."""
    order = []
    monkeypatch.setattr(timing, "seconds_of", lambda run, device: order.append(run()) or SECONDS[order[-1]])
    cases = {name: lambda name=name: name for name in SECONDS}
    return order, time_in_turn(cases, "cpu", **options)


def test_what_is_slow_takes_part_in_the_last_rounds_and_what_is_endless_in_the_warm_up_only(monkeypatch):
    order, timings = timed(monkeypatch, repeats=4, budget=6.0)
    assert order == ["endless", "slow", "fast", *["fast"] * 2, *["fast", "slow"] * 2]
    assert list(timings) == list(SECONDS)
    assert timings["fast"] == Timing(1.0, 1.0, 1.0, 4)
    assert timings["slow"] == Timing(3.0, 3.0, 3.0, 2)
    assert timings["endless"] == Timing(50.0, 50.0, 50.0, 1)


def test_a_run_that_may_have_compiled_is_never_the_one_that_counts(monkeypatch):
    order, timings = timed(monkeypatch, repeats=4, budget=6.0, compiled=("endless", "slow"))
    assert order == ["endless", "slow", "fast", *["fast"] * 2, "fast", "slow", "fast", "slow", "endless"]
    assert [timing.repeats for timing in timings.values()] == [4, 2, 1]
    order, timings = timed(monkeypatch, repeats=1, budget=6.0, compiled=("endless",))
    assert order.count("endless") == 2 and timings["endless"].repeats == 1


def test_the_rate_of_products_counts_all_that_were_taken(monkeypatch):
    monkeypatch.setattr(timing, "FLOOR_SIZE", 8)
    taken = []
    monkeypatch.setattr(torch, "mm", lambda left, right, out: taken.append(2 * out.numel() * left.shape[-1]))
    monkeypatch.setattr(
        timing, "multiply", lambda left, right, out, by_onednn: taken.append(2 * out.numel() * left.shape[-1])
    )
    cases = product_cases("cpu", torch.float32)
    assert list(product_cases("cpu", torch.bfloat16)) == [MM], "whose products are oneDNN's either way"
    for name in (MM, ONEDNN):
        taken.clear()
        cases[name]()
        assert product_rate(Timing.of([0.5])) == sum(taken) / 0.5
