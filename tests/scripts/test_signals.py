"""Signals that schedulers send, under the launchers themselves: saved, said, nobody left running, and gone on with."""

import os
import signal

import pytest

from benchmarks.killing.cases import DEEPSPEED, TORCHRUN, Case
from benchmarks.killing.comparing import differences
from benchmarks.killing.processes import have_ended, kill
from benchmarks.killing.rounds import wait_for_lines
from benchmarks.killing.runs import Launched
from tests.scripts.ranks_here import run_ranks
from tests.scripts.streaming.stream_trials import LAMBDA, SCRIPT, write_texts

ENDS_WITHIN = 10  # seconds
LAUNCHER, RANK = "launcher", "rank"
WAYS = [
    (DEEPSPEED, LAUNCHER, signal.SIGTERM),
    (DEEPSPEED, LAUNCHER, signal.SIGUSR1),  # which it does not hand on
    (DEEPSPEED, LAUNCHER, signal.SIGHUP),
    (DEEPSPEED, RANK, signal.SIGHUP),
    (TORCHRUN, LAUNCHER, signal.SIGTERM),
    (TORCHRUN, LAUNCHER, signal.SIGHUP),
    (TORCHRUN, RANK, signal.SIGUSR1),
]


@pytest.fixture(scope="module")
def flags(tiny_llama_dir, tmp_path_factory):
    texts = write_texts(tmp_path_factory.mktemp("corpus") / "texts", (60, 130, 35))
    size = ("--streaming_length", 12_000, "--max_length", 20, "--streams", 2, "--save_steps", 1000, "--save_token_nll")
    return ["--model", tiny_llama_dir, "--dataset", texts, *LAMBDA, *size, "--token_cache", "none"]


@pytest.fixture(scope="module")
def whole(flags, tmp_path_factory):
    """Of two ranks, undisturbed."""
    log_dir = tmp_path_factory.mktemp("whole") / "stream"
    run_ranks(SCRIPT, 2, *flags, log_dir=log_dir)
    return log_dir


@pytest.fixture(autouse=True)
def hangups_count():
    """Also where the tests run under nohup, whose children ignore them."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("launcher, target, number", WAYS)
def test_a_signal_ends_all_ranks_with_a_checkpoint_that_is_gone_on_from(
    launcher, target, number, flags, whole, tmp_path
):
    log_dir, printed = tmp_path / "log", tmp_path / "printed.txt"
    words = [str(word) for word in (*flags, "--log_dir", log_dir)]
    run = Launched(Case(SCRIPT, 2, launcher=launcher), words, printed)
    try:
        assert wait_for_lines(log_dir / "samples.jsonl", 20, run, 300) and run.status() is None, printed.read_text()
        ranks, everything = run.ranks, run.processes
        assert len(ranks) == 2
        os.kill(run.processes[0] if target == LAUNCHER else ranks[1], number)
        assert have_ended(ranks, ENDS_WITHIN), printed.read_text()
        assert have_ended(everything, ENDS_WITHIN)
    finally:
        kill(run.processes)
    said, log = printed.read_text(), (log_dir / "log.txt").read_text()
    sees_that_it_is_gone = target == LAUNCHER and launcher == DEEPSPEED  # torchrun hands it on
    received = signal.SIGTERM if sees_that_it_is_gone else number
    assert f"{received.name} was received, what is done is kept: the same command goes on" in log
    assert f"error: ended by {received.name}; the same command without --overwrite goes on" in said
    if launcher == DEEPSPEED:
        assert run.status() in (128 + number, -number)  # which a shell shows alike
    else:
        assert run.status() == 1 and (target == LAUNCHER or f"exitcode  : {128 + number}" in said)
    (checkpoint,) = log_dir.glob("checkpoint-*")
    run_ranks(SCRIPT, 2, *flags, log_dir=log_dir)
    assert f"({checkpoint.name})" in (log_dir / "log.txt").read_text()
    assert differences(log_dir, whole) == []
