"""A trial of a stream that is killed at any moment, or finds its log dir damaged."""

import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import time
from functools import partial

import pytest
import torch

from scripts import eval_infinite_ppl
from scripts.harness import experiment
from scripts.streaming import checkpoints
from scripts.streaming.checkpoints import StreamCheckpoints
from scripts.streaming.token_nll import TokenNllFile
from tests.scripts.running import results
from tests.scripts.streaming.stream_trials import (
    LAMBDA,
    METHODS,
    SCRIPT,
    assert_same_files,
    killed_at,
    run_here,
    stopped_trial,
    without_sync,
)
from utils.errors import Stopped, UserError
from utils.program import run_main
from utils.ranks.stopping import Stopping
from utils.trials.trial import Trial


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def half_a_line(_, trial, lines):
    with open(trial.folder / "samples.jsonl", "a") as file:
        file.write(json.dumps(lines[0])[:20])


def half_an_append(_, file, nll):
    with open(file.path, "ab") as raw:
        raw.write(nll.tobytes()[:5])


def half_a_removal(_, folder, *__):
    next(folder.iterdir()).unlink()


KILLS = {
    "before the first checkpoint": partial(killed_at, StreamCheckpoints, "begin", 1),
    "after making room": partial(killed_at, StreamCheckpoints, "begin", 5, after=True),
    "after saving a stream": partial(killed_at, StreamCheckpoints, "save", 5, after=True),
    "before the rename": partial(killed_at, checkpoints, "replace_json", 5, after=True),
    "within the first checkpoint": partial(killed_at, checkpoints, "replace_json", 1, after=True),
    "after the rename": partial(killed_at, checkpoints, "sync_folder", 5),
    "before the old one goes": partial(killed_at, checkpoints, "_remove", 3),
    "while the old one goes": partial(killed_at, checkpoints.shutil, "rmtree", 10, instead=half_a_removal),
    "while single tokens are appended": partial(killed_at, TokenNllFile, "append", 5, instead=half_an_append),
    "before a chunk's line": partial(killed_at, Trial, "append_samples", 6),
    "within a chunk's line": partial(killed_at, Trial, "append_samples", 6, instead=half_a_line),
    "within the last chunk's line": partial(killed_at, Trial, "append_samples", 10, instead=half_a_line),
    "before the sums": partial(killed_at, Trial, "replace_arrays", 1),
    "between the sums and the results": partial(killed_at, Trial, "finish", 1),
    "before the checkpoints go": partial(killed_at, StreamCheckpoints, "remove_all", 1),
    "while the checkpoints go": partial(killed_at, checkpoints, "_remove", 9),
}


@pytest.mark.parametrize("kill", KILLS)
def test_killed_at_any_step_it_ends_as_if_never_killed(kill, flags, whole, tmp_path):
    with KILLS[kill]():
        run_here(*flags, *LAMBDA, "--log_dir", tmp_path)
    run_here(*flags, *LAMBDA, "--log_dir", tmp_path)
    assert_same_files(tmp_path, whole)


@pytest.mark.core
@pytest.mark.parametrize("method", METHODS)
def test_every_method_goes_on_from_its_checkpoint(method, flags, tmp_path):
    flags = (*flags, *METHODS[method], "--streams", 2, "--save_steps", 3)
    run_here(*flags, "--log_dir", tmp_path / "whole")
    for call in (8, 2):  # 7 chunks, of which 6 are in a checkpoint, and one more
        with killed_at(Trial, "append_samples", call):
            run_here(*flags, "--log_dir", tmp_path / "killed")
    run_here(*flags, "--log_dir", tmp_path / "killed")
    assert (tmp_path / "killed" / "log.txt").read_text().count("going on from token 192 of 300") == 2
    assert_same_files(tmp_path / "killed", tmp_path / "whole")


def run_in_child(flags, threads, printed=None, largest_file=None):
    """What a process forked for one run does; it never returns."""
    torch.set_num_threads(threads)
    output = os.open(printed or os.devnull, os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(output, stream)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    sys.argv, os.fsync = [f"scripts/{SCRIPT}.py", *map(str, flags)], without_sync
    run_main(eval_infinite_ppl.main)
    os._exit(0)


@pytest.fixture(scope="module")
def children():
    """Starts processes that have imported everything already, so that many can be killed in little time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])

    def start(*flags, **options):
        threads = torch.get_num_threads()  # the last bits of a sum depend on their number
        process = context.Process(target=run_in_child, args=(flags, threads), kwargs=options)
        process.start()
        return process

    return start


def wait_for_another_checkpoint(log_dir, process):
    def held():
        return sorted(log_dir.glob("checkpoint-*[0-9]"))

    before, deadline = held(), time.monotonic() + 240
    while process.is_alive() and held() == before:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_kill_9_at_random_moments(children, flags, tmp_path):
    flags = (*flags, *LAMBDA, "--streaming_length", 1000, "--max_length", 10)
    assert join(children(*flags, "--log_dir", tmp_path / "whole")) == 0
    moments, kills = random.Random(0), 0
    for _ in range(6):
        process = children(*flags, "--log_dir", tmp_path / "killed")
        wait_for_another_checkpoint(tmp_path / "killed", process)
        time.sleep(moments.uniform(0, 0.05))  # a few chunks, each with its checkpoint
        process.kill()
        kills += join(process) != 0
    assert kills >= 3
    assert join(children(*flags, "--log_dir", tmp_path / "killed")) == 0
    assert_same_files(tmp_path / "killed", tmp_path / "whole")


def join(process):
    process.join(240)
    return process.exitcode


@pytest.mark.parametrize("save_steps", [1, 1000], ids=["checkpoint", "sums"])
def test_a_full_disk_is_one_sentence_and_loses_nothing(save_steps, children, flags, whole, tmp_path):
    flags = (*flags, *LAMBDA, "--save_steps", save_steps, "--log_dir", tmp_path / "log")
    process = children(*flags, printed=tmp_path / "printed", largest_file=6000)  # bytes
    status, printed = join(process), (tmp_path / "printed").read_text()
    errors = [line for line in printed.splitlines() if line.startswith("error")]
    assert status == 2 and len(errors) == 1 and "Traceback" not in printed
    assert f"--log_dir {tmp_path / 'log'} cannot be written (" in errors[0] and "File too large" in errors[0]
    run_here(*flags)
    assert_same_files(tmp_path / "log", whole)


@pytest.mark.parametrize("name", ["stream_0000.safetensors", "checkpoint.json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(name, flags, whole, tmp_path):
    damage(stopped_trial(flags, tmp_path) / "checkpoint-000000006" / name)
    run_here(*flags, *LAMBDA, "--log_dir", tmp_path)
    log = (tmp_path / "log.txt").read_text()
    assert "checkpoint-000000006 is damaged" in log and name in log
    assert "going on from token 160 of 300 (checkpoint-000000005)" in log
    assert_same_files(tmp_path, whole)


def test_damaged_checkpoints_alone_are_refused(flags, tmp_path):
    for folder in stopped_trial(flags, tmp_path).glob("checkpoint-*"):
        damage(folder / "stream_0000.safetensors")
    with pytest.raises(UserError, match=r"no checkpoint in --log_dir .* is whole \(newest: checkpoint-000000006\)"):
        run_here(*flags, *LAMBDA, "--log_dir", tmp_path)


def test_single_tokens_that_were_lost_are_refused(flags, tmp_path):
    os.truncate(stopped_trial(flags, tmp_path) / "token_nll_0000.f32", 100)
    with pytest.raises(UserError, match=r"token_nll_0000.f32 holds 25 of the 191 tokens .* --overwrite"):
        run_here(*flags, *LAMBDA, "--log_dir", tmp_path)


def test_lines_that_were_lost_are_refused(flags, tmp_path):
    path = stopped_trial(flags, tmp_path) / "samples.jsonl"
    path.write_text("\n".join(path.read_text().splitlines()[:3]) + "\n")
    with pytest.raises(UserError, match=r"samples.jsonl holds 3 of the 6 chunks .* --overwrite"):
        run_here(*flags, *LAMBDA, "--log_dir", tmp_path)


@pytest.mark.parametrize("first, then", [("none", "{}"), ("{}", "none")], ids=["without", "with"])
def test_a_trial_goes_on_with_another_token_cache_or_none(first, then, flags, whole, tmp_path):
    first, then = (word.format(tmp_path / "ids") for word in (first, then))
    stopped_trial((*flags, "--token_cache", first), tmp_path / "log")
    run_here(*flags, *LAMBDA, "--token_cache", then, "--save_seconds", 7, "--log_dir", tmp_path / "log")
    assert_same_files(tmp_path / "log", whole)
    assert len(list((tmp_path / "ids").glob("texts-*/ids.bin"))) == 1


def test_other_arguments_are_refused_and_overwrite_starts_afresh(flags, whole, tmp_path):
    stopped_trial((*flags, "--seed", 5), tmp_path)
    with pytest.raises(UserError, match="--seed was 5 and is 0 now"):
        run_here(*flags, *LAMBDA, "--log_dir", tmp_path)
    (tmp_path / "token_nll_0001.f32").touch()
    run_here(*flags, *LAMBDA, "--log_dir", tmp_path, "--overwrite")
    assert "going on" not in (tmp_path / "log.txt").read_text()
    assert_same_files(tmp_path, whole)


def test_overwrite_keeps_checkpoints_of_something_else(flags, tmp_path):
    (tmp_path / "checkpoint-500").mkdir()
    (tmp_path / "checkpoint-500" / "model.safetensors").touch()  # as Transformers' Trainer names them
    run_here(*flags, *LAMBDA, "--log_dir", tmp_path, "--overwrite")
    assert (tmp_path / "checkpoint-500" / "model.safetensors").exists()


def test_a_finished_trial_shows_its_results_without_the_model(flags, whole, tmp_path, capsys, monkeypatch):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr("scripts.streaming.experiment.load_model", lambda *_: pytest.fail("the model was loaded"))
    run_here(*flags, *LAMBDA, "--log_dir", tmp_path)
    said = capsys.readouterr().out
    assert "finished" in said and f"nll {results(whole)['nll']:.4f} nats/token" in said
    assert_same_files(tmp_path, whole)


def test_a_checkpoint_with_other_buckets_is_one_sentence(flags, tmp_path, monkeypatch):
    with KILLS["before the sums"]():
        run_here(*flags, *LAMBDA, "--log_dir", tmp_path)
    monkeypatch.setattr("utils.trials.nll_of_stream.LINEAR_BUCKETS", 7)
    with pytest.raises(UserError, match="was written by another version of this code"):
        run_here(*flags, *LAMBDA, "--log_dir", tmp_path)


def test_a_signal_is_followed_by_a_checkpoint_of_the_chunk(flags, whole, tmp_path, monkeypatch):
    append, stopped = Trial.append_samples, Stopping()

    def receive(trial, lines, sync):
        append(trial, lines, sync)
        stopped.received = signal.SIGUSR1 if lines[0]["index"] == 4 else 0

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(experiment, "stopping", stopped)
        patch.setattr(Trial, "append_samples", receive)
        run_here(*flags, *LAMBDA, "--save_steps", 1000, "--log_dir", tmp_path)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-000000005"]
    assert "SIGUSR1 was received" in (tmp_path / "log.txt").read_text()
    run_here(*flags, *LAMBDA, "--log_dir", tmp_path)
    assert "going on from token 160" in (tmp_path / "log.txt").read_text()
    assert_same_files(tmp_path, whole)


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_of_single_tokens_is_named_and_repaired_from_the_checkpoint_before(flags, whole, tmp_path):
    stopped_trial(flags, tmp_path)  # checkpoints of 160 and of 192 tokens
    flip(tmp_path / "token_nll_0000.f32", 4 * 170)
    with pytest.raises(UserError, match=r"token_nll_0000.f32 is not as it was written, within its first 191 tokens"):
        run_here(*flags, *LAMBDA, "--log_dir", tmp_path)
    run_here(*flags, *LAMBDA, "--log_dir", tmp_path, "--repair")
    log = (tmp_path / "log.txt").read_text()
    assert "checkpoint-000000006 is dropped: token_nll_0000.f32" in log and "going on from token 160" in log
    assert_same_files(tmp_path, whole)


def test_a_line_put_into_a_streams_samples_is_named_and_repaired(flags, whole, tmp_path):
    path = stopped_trial(flags, tmp_path) / "samples.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], "5\n", *lines[2:]]))
    with pytest.raises(UserError, match=r"samples.jsonl line 3 is no JSON object with an index, line 4 was written as"):
        run_here(*flags, *LAMBDA, "--log_dir", tmp_path)
    run_here(*flags, *LAMBDA, "--log_dir", tmp_path, "--repair")
    assert "going on from token 192" in (tmp_path / "log.txt").read_text()  # nothing of it was lost
    assert_same_files(tmp_path, whole)


def test_documents_without_a_text_are_named_whenever_they_were_met(flags, whole, tmp_path):
    expected = {"index": 3, "id": "003.txt", "reason": "is empty"}
    assert results(whole)["skipped"] == [expected] and results(whole)["skipped_documents"] == 1
    with killed_at(Trial, "append_samples", 10):  # what follows its newest checkpoint meets no document
        run_here(*flags, *LAMBDA, "--log_dir", tmp_path)
    run_here(*flags, *LAMBDA, "--log_dir", tmp_path)
    log = (tmp_path / "log.txt").read_text()
    assert log.count("skipped: ") == 1 and "1 document skipped, which results.json names" in log
    assert results(tmp_path)["skipped"] == [expected]


def test_a_finished_stream_is_repaired_from_its_beginning_and_says_so(flags, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "copy")
    flip(tmp_path / "copy" / "token_nll_0000.f32", 4 * 170)
    run_here(*flags, *LAMBDA, "--log_dir", tmp_path / "copy", "--repair")
    assert "no checkpoint is left, as none is of a finished stream" in (tmp_path / "copy" / "log.txt").read_text()
    assert_same_files(tmp_path / "copy", whole)
