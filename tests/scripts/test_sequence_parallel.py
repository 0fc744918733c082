"""Ranks that read one sequence together leave the trial that one rank leaves, and go on where any number stopped."""

import json
import random
import time

import numpy as np
import pytest

from tests.scripts.ranks_here import Ranks, killing, run_ranks
from tests.scripts.running import ROOT, arrays, results, run_script, samples
from tests.scripts.streaming.stream_trials import LAMBDA, WORDS, token_nll, write_texts

STREAM, DOCUMENTS = "eval_infinite_ppl", "eval_ppl_deepspeed"
GENERATION, TASKS = "eval_generation", "eval_downstream_tasks"
ZERO = ROOT / "configs" / "zero3_efficient_config.json"
TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}
LENGTH, CHUNK = 600, 50


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("corpus") / "texts", [length for length in WORDS if length])


@pytest.fixture(scope="module")
def model_flags(tiny_llama_dir, texts):
    return ("--model", tiny_llama_dir, "--dataset", texts, *LAMBDA)


@pytest.fixture(scope="module")
def stream_flags(model_flags):
    size = ("--streaming_length", LENGTH, "--max_length", CHUNK, "--save_steps", 1, "--token_cache", "none")
    return (*model_flags, *size, "--save_token_nll")


@pytest.fixture(scope="module")
def stream(stream_flags, tmp_path_factory):
    """Of one rank, undisturbed."""
    log_dir = tmp_path_factory.mktemp("whole") / "stream"
    run_ranks(STREAM, 1, *stream_flags, log_dir=log_dir)
    return log_dir


def assert_same_stream(log_dir, other):
    np.testing.assert_allclose(token_nll(log_dir), token_nll(other), **TOLERANCE)
    mine, theirs = results(log_dir), results(other)
    assert mine["tokens"] == theirs["tokens"] and mine["nll"] == pytest.approx(theirs["nll"], abs=1e-6)
    assert not list(log_dir.glob("checkpoint-*"))


@pytest.mark.parametrize("ranks, together", [(2, 2), (3, 3), (4, 4)])
def test_a_stream(stream_flags, stream, tmp_path, ranks, together):
    run_ranks(STREAM, ranks, *stream_flags, "--sequence_parallel", together, log_dir=tmp_path / "log")
    assert_same_stream(tmp_path / "log", stream)


def test_two_groups_read_a_stream_each(stream_flags, tmp_path):
    run_ranks(STREAM, 1, *stream_flags, "--streams", 2, log_dir=tmp_path / "one")
    flags = (*stream_flags, "--streams", 2, "--sequence_parallel", 2)
    run_ranks(STREAM, 4, *flags, log_dir=tmp_path / "four")
    for index in range(2):
        np.testing.assert_allclose(token_nll(tmp_path / "four", index), token_nll(tmp_path / "one", index), **TOLERANCE)
    assert results(tmp_path / "four")["nll"] == pytest.approx(results(tmp_path / "one")["nll"], abs=1e-6)


def test_under_zero3(stream_flags, stream, tmp_path):
    flags = (*stream_flags, "--sequence_parallel", 2, "--deepspeed_config", ZERO, "--log_dir", tmp_path / "log")
    run = run_script(STREAM, *flags, ranks=2)
    assert run.returncode == 0, run.stderr
    assert_same_stream(tmp_path / "log", stream)


@pytest.mark.parametrize("before, after", [(1, 3), (4, 2), (3, 1)])
def test_a_stream_goes_on_over_another_number_of_ranks(stream_flags, stream, tmp_path, before, after):
    log_dir = tmp_path / "log"
    with killing(STREAM, before, before - 1, *stream_flags, "--sequence_parallel", before, log_dir=log_dir) as started:
        wait_for_checkpoint(log_dir, started)
    run_ranks(STREAM, after, *stream_flags, "--sequence_parallel", after, log_dir=log_dir)
    assert "going on from token" in log_dir.with_suffix(".said").read_text()
    assert_same_stream(log_dir, stream)


def wait_for_checkpoint(log_dir, started, seconds=60):
    deadline = time.monotonic() + seconds
    while not list(log_dir.glob("checkpoint-*[0-9]")):
        assert time.monotonic() < deadline and any(p.is_alive() for p in started.processes), started.said
        time.sleep(0.002)


def test_kill_9_of_any_rank_at_random_moments(stream_flags, stream, tmp_path):
    log_dir, moments = tmp_path / "log", random.Random(1)
    flags = (*stream_flags, "--sequence_parallel", 3)
    for victim in (0, 1, 2):
        with killing(STREAM, 3, victim, *flags, log_dir=log_dir) as started:
            wait_for_checkpoint(log_dir, started)
            time.sleep(moments.uniform(0, 0.05))
    run_ranks(STREAM, 3, *flags, log_dir=log_dir)
    assert_same_stream(log_dir, stream)


@pytest.mark.parametrize(
    "ranks, together, more", [(3, 3, ()), (4, 2, ("--batch_size", 2)), (2, 2, ("--prefill_chunk", 20))]
)
def test_documents(model_flags, tmp_path, ranks, together, more):
    run_ranks(DOCUMENTS, 1, *model_flags, log_dir=tmp_path / "one")
    run_ranks(DOCUMENTS, ranks, *model_flags, "--sequence_parallel", together, *more, log_dir=tmp_path / "many")
    mine, theirs = samples(tmp_path / "many"), samples(tmp_path / "one")
    assert [line.pop("nll") for line in mine] == pytest.approx([line.pop("nll") for line in theirs], abs=1e-6)
    assert mine == theirs
    for name, array in arrays(tmp_path / "one").items():
        np.testing.assert_allclose(arrays(tmp_path / "many")[name], array, **TOLERANCE)


POSITIONS = ("--evaluate_positions", 5, 40, 90, "--max_generation_length", 8, "--prefill_chunk", 30)
TASK = ("--dataset", "ruler/vt", "--num_samples", 3, "--max_length", 1100, "--max_generation_length", 8)


def outputs(log_dir):
    return [(line["index"], line["output"]) for line in samples(log_dir)]


@pytest.mark.parametrize("ranks, together", [(2, 2), (4, 2)])
def test_generation(model_flags, tmp_path, ranks, together):
    run_ranks(GENERATION, 1, *model_flags, *POSITIONS, log_dir=tmp_path / "one")
    flags = (*model_flags, *POSITIONS, "--sequence_parallel", together)
    run_ranks(GENERATION, ranks, *flags, log_dir=tmp_path / "many")
    assert outputs(tmp_path / "many") == outputs(tmp_path / "one") and len(outputs(tmp_path / "one")) > 2


@pytest.mark.parametrize("more", [(), ("--prefill_chunk", 100)])
def test_tasks(tiny_llama_dir, tmp_path, more):
    flags = ("--model", tiny_llama_dir, *LAMBDA, *TASK)
    run_ranks(TASKS, 1, *flags, log_dir=tmp_path / "one")
    run_ranks(TASKS, 2, *flags, *more, "--sequence_parallel", 2, log_dir=tmp_path / "many")
    assert outputs(tmp_path / "many") == outputs(tmp_path / "one") and len(outputs(tmp_path / "one")) == 3


def test_a_rank_that_fails_within_a_prompt_ends_the_others(model_flags, tmp_path):
    flags = (*model_flags, *POSITIONS, "--sequence_parallel", 2, "--rank_timeout", 5, "--log_dir", tmp_path / "log")
    started = Ranks(GENERATION, 2, flags, tmp_path / "said", failing=1)
    assert all(started.wait()) and started.seconds < 60
    assert "memory ran out, and with --sequence_parallel no rank can go on without the others" in started.said
    assert "Traceback" not in started.said


def test_prompts_are_read_one_by_one(tiny_llama_dir, tmp_path):
    flags = ("--model", tiny_llama_dir, *LAMBDA, *TASK, "--batch_size", 2, "--sequence_parallel", 2)
    run = run_script(TASKS, *flags, "--log_dir", tmp_path)
    assert run.returncode == 2 and "--batch_size must be 1 with --sequence_parallel 2" in run.stderr


def test_the_top_k_are_refused(tiny_llama_dir, tmp_path):
    flags = ("--model", tiny_llama_dir, *LAMBDA, *TASK, "--top_k_attention", 4, "--sequence_parallel", 2)
    run = run_script(TASKS, *flags, "--log_dir", tmp_path)
    assert run.returncode == 2 and "contradicts --top_k_attention" in run.stderr


@pytest.mark.parametrize(
    "flags, sentence",
    [
        (("--sequence_parallel", 2), "needs a multiple of 2 ranks, and there are 1"),
        (("--sequence_parallel", 2, "--triangle_offset", 1), "contradicts --triangle_offset"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(model_flags, tmp_path, flags, sentence):
    run = run_script(STREAM, *model_flags, *flags, "--log_dir", tmp_path / "log")
    assert run.returncode == 2 and sentence in run.stderr and "Traceback" not in run.stderr


def test_a_vanilla_model_is_refused(tiny_llama_dir, texts, tmp_path):
    flags = ("--model", tiny_llama_dir, "--dataset", texts, "--sequence_parallel", 2, "--log_dir", tmp_path)
    run = run_script(DOCUMENTS, *flags)
    assert run.returncode == 2 and "needs --use_lambda_attention" in run.stderr


def test_it_is_recorded(stream_flags, tmp_path):
    run_ranks(STREAM, 2, *stream_flags, "--sequence_parallel", 2, log_dir=tmp_path / "log")
    assert json.loads((tmp_path / "log" / "config.json").read_text())["arguments"]["sequence_parallel"] == 2
