"""The stream cases read what an evaluation of a stream does, and count its tokens and its busy time right."""

import time

import pytest
import torch
from transformers import LlamaConfig

from benchmarks.gpu_parts import large_model, stream
from benchmarks.gpu_parts.large_model import OneModel, config_of
from benchmarks.gpu_parts.sizes import TINY, TINY_MODEL, Plan
from benchmarks.gpu_parts.stream import Stream, measure_stream
from benchmarks.measuring.accelerator import Accelerator, Busy
from benchmarks.measuring.random_models import random_model
from models.conversion import is_converted
from models.model_base import convert_model

PLAN = Plan("cpu", TINY)


@pytest.fixture
def read_so_far():
    """A stream in chunks of 8 tokens, and the numbers of tokens that were read in turn."""
    model = convert_model(random_model(LlamaConfig(**TINY_MODEL), "cpu", torch.float32), config_of(TINY))
    found, read = Stream(model, 8), []
    model.base_model.register_forward_pre_hook(
        lambda module, args, inputs: read.append(inputs["input_ids"].shape[1]), with_kwargs=True
    )
    return found, read


def test_a_stream_goes_on_from_chunk_to_chunk(read_so_far):
    found, read = read_so_far
    found.read(3)
    assert read == [8, 8, 8] and found.scorer.cache.get_seq_length() == 24


def test_speed_and_busy_time_are_of_the_chunks_that_were_timed(read_so_far, monkeypatch):
    found, _ = read_so_far
    chunks = []

    def read(chunk_count=1):
        chunks.append(chunk_count)
        time.sleep(0.02 * chunk_count)

    Stream.read(found, 1)  # so that there is a cache
    monkeypatch.setattr(found, "read", read)
    monkeypatch.setattr(Accelerator, "busy", lambda self, run: run() or Busy(1.0, 0.02, []))
    numbers = measure_stream(found, PLAN.accelerator, seconds=0.1)
    assert chunks == [stream.WARM_UPS, *[1] * numbers["chunks"], 1, stream.PROFILED]
    assert 2 <= numbers["chunks"] <= 5 and 100 < numbers["tokens_per_second"] <= 400
    assert numbers["minutes_for_200m"] == pytest.approx(2e8 / numbers["tokens_per_second"] / 60)
    per_chunk = 8 / numbers["tokens_per_second"]
    assert numbers["busy_share"] == pytest.approx(0.02 / stream.PROFILED / per_chunk)


def test_a_profiler_that_may_not_look_gives_no_share(read_so_far, monkeypatch):
    monkeypatch.setattr(Accelerator, "busy", lambda self, run: run() or Busy(1.0, None, []))
    assert measure_stream(read_so_far[0], PLAN.accelerator, seconds=0.0)["busy_share"] is None


def test_every_backend_reads_a_stream():
    cases = [case.name for case in stream.cases(PLAN)]
    assert cases[:2] == ["chunks of 64 tokens, auto", "chunks of 128 tokens, auto"]
    assert "chunks of 64 tokens, flex" in cases and "chunks of 64 tokens, blockwise" in cases


def test_the_large_model_is_one_for_all_cases_converted_and_taken_back(monkeypatch):
    made = []
    monkeypatch.setattr(large_model, "random_model", lambda *x: made.append(x) or random_model(*x))
    one = OneModel(PLAN)
    assert is_converted(one.converted()) and not is_converted(one.vanilla()) and is_converted(one.converted())
    assert len(made) == 1 and one.vanilla().dtype == torch.bfloat16


def test_what_is_measured_of_a_reading(monkeypatch):
    calls, read_and_generate = [], large_model.read_and_generate

    def read(model, length, tokens, graph):
        calls.append((is_converted(model), length, tokens, graph))
        return read_and_generate(model, length, tokens, graph)

    monkeypatch.setattr(large_model, "read_and_generate", read)
    one = OneModel(PLAN)
    found = {name: large_model.measure_reading(PLAN, one, name) for name in ("vanilla", large_model.CAPTURED)}
    assert calls == [(False, 200, 2, False), (False, 200, 4, False), (True, 200, 2, True), (True, 200, 4, True)]
    assert found["vanilla"]["cache_mib"] > 3 * found[large_model.CAPTURED]["cache_mib"]
    for numbers in found.values():
        assert numbers["prefill_tokens_per_second"] == pytest.approx(200 / numbers["prefill_seconds"])
