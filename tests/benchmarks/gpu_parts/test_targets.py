"""The targets: where in a report each number comes from, and what is said of those that are not there."""

from dataclasses import replace

import pytest

from benchmarks.gpu_parts import growth, layer, stream, targets
from benchmarks.gpu_parts.apart import times_apart
from benchmarks.gpu_parts.case import Case
from benchmarks.gpu_parts.every import PARTS
from benchmarks.gpu_parts.report import Report
from benchmarks.gpu_parts.sizes import FULL, TINY, Plan
from benchmarks.gpu_parts.summary import failures, summarise

SIZES = replace(TINY, shapes=FULL.shapes)
PLAN = Plan("cpu", SIZES)
SMOLLM2, LLAMA2 = SIZES.shapes
SHORT, LONG = TINY.layer_lengths
BY_NAME = {part.name: part for part in PARTS}


@pytest.fixture
def report(tmp_path):
    return Report(tmp_path / "out.json", PLAN)


def put(report, part, case, **found):
    report.put(BY_NAME[part], Case(case, 1.0, dict), {"state": "measured", **found})


def seen(report):
    return [(target.seen, target.met, target.by) for target in targets.targets(report, SIZES)]


def test_nothing_is_measured_at_first(report):
    assert set(seen(report)) == {(None, None, "")}
    assert "not measured" in summarise(report, PLAN) and not failures(report)


def test_correctness_counts_what_is_wrong_and_what_failed(report):
    put(report, "correctness", "a", passed=True)
    put(report, "correctness", "b", passed=False)
    put(report, "correctness", "c", state="refused", why="it has no kernel")
    put(report, "correctness", "d", state="failed", why="ValueError: no")
    assert seen(report)[0][:2] == (2, False)
    assert failures(report) == ["correctness: b", "correctness: d"]
    said = summarise(report, PLAN)
    assert "beyond its bound: correctness: b" in said and "failed: correctness: d: ValueError: no" in said
    assert "refused: correctness: c: it has no kernel" in said and said.count("correctness: d") == 1


def test_layers_take_the_best_kernel_and_the_best_backend(report):
    for name, rate in (("dense", 500.0), ("kernel flash", 250.0), ("flex, window", 320.0)):
        put(report, "layer", layer.case_name(SMOLLM2, SHORT, name), tflops_per_second=rate)
    for name, seconds in (("dense", 1.3), ("flex", 0.1), ("blockwise", 0.5), ("flex, window", 0.01)):
        put(report, "layer", layer.case_name(LLAMA2, LONG, name), median=seconds)
    found = seen(report)[1:5]
    assert found[0] == (0.64, True, "flex, window") and found[1][0] is None and found[2][0] is None
    assert found[3] == (13.0, True, "flex")


def test_streams_and_the_large_model(report):
    for chunk, minutes in ((64, 20.0), (128, 14.0)):
        put(report, "stream", stream.case_name(chunk, "auto"), minutes_for_200m=minutes)
    put(report, "large_model", "a stream", tokens_per_second=24_000.0)
    for name, speed in (("vanilla", 20.0), ("Λ-attention", 40.0), ("Λ-attention, captured steps", 60.0)):
        put(report, "large_model", name, decoded_tokens_per_second=speed)
    found = seen(report)[5:8]
    assert found[0] == (14.0, True, "chunks of 128 tokens, auto") and found[1][:2] == (24_000.0, False)
    assert found[2] == (3.0, True, "Λ-attention, captured steps")


def test_growth_is_that_from_the_first_to_the_last(report):
    for place, time in zip(TINY.growth_lengths, (100.0, 105.0)):
        put(report, "growth", growth.layer_case(place), nanoseconds_per_token=time, working_memory_mib=2 * time)
    for place, time in zip(TINY.decode_positions, (1.0, 1.5)):
        put(report, "growth", growth.step_case(place), milliseconds_per_token=time, cache_mib=3.0)
    found = seen(report)[8:]
    assert [met for _, met, _ in found] == [True, True, False, True] and found[2][0] == 1.5


def test_the_time_of_a_layer_apart(report):
    ways = {"flex": 5.0, "flex, window": 4.0, "flex, window, no positions": 2.5}
    for way, seconds in ways.items():
        put(report, "layer", layer.case_name(LLAMA2, SHORT, way), median=seconds)
    put(report, "layer", layer.case_name(LLAMA2, SHORT, "blockwise"), median=9.0)
    (row,) = times_apart(report, SIZES)
    assert (row["window"], row["rotation"], row["first_tokens_and_join"]) == (2.5, 1.5, 1.0)
    assert "Llama-2-7B" in summarise(report, PLAN)
    assert report.content["layer_apart"] == [row] and len(report.content["targets"]) == 12
