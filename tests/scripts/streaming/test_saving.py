"""Checkpoints beside the computation: of which moment, how much is hashed, errors, and ends before the end."""

import threading
import time

import pytest
import torch

from scripts.streaming import checkpoints, experiment, schedule
from scripts.streaming.checkpoints import StreamCheckpoints
from scripts.streaming.experiment import Reading
from scripts.streaming.saving import Saving
from tests.scripts.running import run_script
from tests.scripts.streaming.stream_trials import (
    CHUNK,
    LAMBDA,
    LENGTH,
    METHODS,
    SCRIPT,
    assert_same_files,
    run_here,
    samples,
    token_nll,
)
from utils.console import Console
from utils.errors import Unfinished, UserError
from utils.files import writing_to
from utils.trials.trial import Trial


class Watch:
    """Follows a run: what its streams stood at when each checkpoint was begun, and what was written as that."""

    def __init__(self, monkeypatch):
        self.due, self.written, self.chunks_before_writing = {}, {}, {}
        self.chunk_is_done, self.chunks = threading.Condition(), 0
        begin, save, keep = Saving.begin, StreamCheckpoints.save, Reading.keep

        def watched_begin(saving, streams, scorer, standing):
            held = {name: tensor.clone() for name, tensor in scorer.state(0).wait().items()}
            sums = {name: torch.tensor(array) for name, array in streams[0].statistics.arrays().items()}
            begin(saving, streams, scorer, standing)
            self.due[standing.chunks] = (held | sums, streams[0].describe(), standing.position)

        def late_save(self_, number, stream, tensors):
            with self.chunk_is_done:
                assert self.chunk_is_done.wait_for(lambda: self.chunks > number, timeout=30)
            self.chunks_before_writing[number] = self.chunks
            self.written[number] = {name: tensor.clone() for name, tensor in tensors.items()}
            return save(self_, number, stream, tensors)

        def counting_keep(reading, *given):
            keep(reading, *given)
            with self.chunk_is_done:
                self.chunks += 1
                self.chunk_is_done.notify_all()

        monkeypatch.setattr(Saving, "begin", watched_begin)
        monkeypatch.setattr(StreamCheckpoints, "save", late_save)
        monkeypatch.setattr(Reading, "keep", counting_keep)


@pytest.mark.parametrize("method", METHODS)
def test_a_checkpoint_holds_the_end_of_its_chunk_though_it_is_written_after_the_next_one(
    method, flags, tmp_path, monkeypatch
):
    watch, states, commit = Watch(monkeypatch), {}, StreamCheckpoints.commit

    def watched_commit(self, number, state, digests):
        states[number] = state
        commit(self, number, state, digests)

    monkeypatch.setattr(StreamCheckpoints, "commit", watched_commit)
    run_here(*flags, *METHODS[method], "--save_steps", 2, "--log_dir", tmp_path)
    assert list(watch.due) == list(watch.written) == list(states) == [2, 4, 6, 8]
    assert all(chunks > number for number, chunks in watch.chunks_before_writing.items())
    for number, (tensors, described, position) in watch.due.items():
        assert position == number * CHUNK and states[number]["position"] == position
        assert states[number]["streams"] == [described] and described["token_nll"] == position - 1
        assert set(tensors) == set(watch.written[number])
        for name, tensor in tensors.items():
            assert torch.equal(watch.written[number][name], tensor), name
    assert not torch.equal(watch.written[4]["last_hidden"], watch.written[6]["last_hidden"])


def test_what_is_hashed_depends_on_the_time_and_not_on_the_chunks(flags, tmp_path, monkeypatch):
    now, hashed, do, digest = [0.0], [], Reading.do, checkpoints.hashlib.file_digest

    def slow_do(self, piece):
        now[0] += piece  # a token a second
        return do(self, piece)

    def counting_digest(file, name):
        if "checkpoint-" in file.name:  # and not what results.json was computed from, once at the end
            hashed.append(len(file.read()))
            file.seek(0)
        return digest(file, name)

    monkeypatch.setattr(schedule, "monotonic", lambda: now[0])
    monkeypatch.setattr(Reading, "do", slow_do)
    monkeypatch.setattr(checkpoints.hashlib, "file_digest", counting_digest)
    monkeypatch.setattr(Saving, "is_writing", False)  # this clock does not wait for a disk
    flags = [word for word in map(str, flags) if word not in ("--save_steps", "1")]
    for chunk in (5, 20, 60):
        now[0], hashed[:] = 0.0, []
        log_dir = tmp_path / str(chunk)
        run_here(*flags, *LAMBDA, "--streaming_length", 610, "--max_length", chunk, "--log_dir", log_dir)
        assert len(hashed) == 10 and len(set(hashed)) == 1  # one a minute
        assert sum(hashed) / 610 == pytest.approx(hashed[0] / 60, rel=0.02)  # bytes per token


def test_a_failure_in_the_background_is_its_sentence_at_the_next_chunk(flags, tmp_path, monkeypatch):
    def failing(self, number, *_):
        with writing_to(self.log_dir):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(StreamCheckpoints, "save", failing)
    check = Saving.check
    monkeypatch.setattr(Saving, "check", lambda self: (self._pending and self._pending.exception(), check(self)))
    with pytest.raises(UserError, match=r"--log_dir .* cannot be written \(No space left on device\)"):
        run_here(*flags, *LAMBDA, "--save_steps", 3, "--log_dir", tmp_path)
    assert len(samples(tmp_path)) == 4


def test_a_failure_of_the_last_checkpoint_is_no_finished_trial(flags, tmp_path, monkeypatch):
    begin = StreamCheckpoints.begin

    def failing(self, number):
        time.sleep(0.3)  # the last chunk is done by then
        with writing_to(self.log_dir):
            raise OSError(28, "No space left on device") if number == 9 else begin(self, number)

    monkeypatch.setattr(StreamCheckpoints, "begin", failing)
    with pytest.raises(UserError, match="cannot be written"):
        run_here(*flags, *LAMBDA, "--save_steps", 9, "--log_dir", tmp_path)
    assert not (tmp_path / "results.json").exists()


def test_an_error_lets_the_checkpoint_be_finished_that_was_begun(flags, whole, tmp_path, monkeypatch):
    save, refuse = StreamCheckpoints.save, experiment.refuse_broken
    monkeypatch.setattr(StreamCheckpoints, "save", lambda *given: (time.sleep(0.3), save(*given))[1])

    def refusing(nll, first, streams):
        if first == 5 * CHUNK:
            raise UserError("broken")
        refuse(nll, first, streams)

    monkeypatch.setattr(experiment, "refuse_broken", refusing)
    with pytest.raises(UserError, match="broken"):
        run_here(*flags, *LAMBDA, "--save_steps", 5, "--log_dir", tmp_path)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-000000005"]
    monkeypatch.undo()
    run_here(*flags, *LAMBDA, "--log_dir", tmp_path)
    assert "going on from token 160 of 300" in (tmp_path / "log.txt").read_text()
    assert_same_files(tmp_path, whole)


def test_an_error_besides_that_of_a_checkpoint_leaves_both_said(flags, tmp_path, monkeypatch, capsys):
    def failing(*_):
        time.sleep(0.3)
        raise UserError("no room")

    def refusing(*_):
        if samples(tmp_path):
            raise UserError("broken")

    monkeypatch.setattr(StreamCheckpoints, "save", failing)
    monkeypatch.setattr(experiment, "refuse_broken", lambda *_: (tmp_path / "samples.jsonl").exists() and refusing())
    with pytest.raises(UserError, match="broken"):
        run_here(*flags, *LAMBDA, "--log_dir", tmp_path)
    assert "the newest checkpoint was not written: no room" in capsys.readouterr().out


def test_a_run_ends_itself_with_a_checkpoint_and_nothing_is_lost_between_two(flags, whole, tmp_path, monkeypatch):
    now, do, flags = [0.0], Reading.do, (*flags, *LAMBDA, "--save_steps", 1000, "--max_seconds", 25)

    def slow_do(self, piece):
        now[0] += 10
        return do(self, piece)

    monkeypatch.setattr(schedule, "monotonic", lambda: now[0])
    monkeypatch.setattr(experiment.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(Reading, "do", slow_do)
    for pieces in (1, 2, 3):  # three chunks each, of ten
        with pytest.raises(Unfinished):
            run_here(*flags, "--log_dir", tmp_path)
        assert len(samples(tmp_path)) == 3 * pieces and len(token_nll(tmp_path)) == 3 * pieces * CHUNK - 1
        newest = sorted(path.name for path in tmp_path.glob("checkpoint-*"))[-1]
        assert newest == f"checkpoint-{3 * pieces:09d}"
    run_here(*flags, "--log_dir", tmp_path)
    log = (tmp_path / "log.txt").read_text()
    assert f"the time is up (--max_seconds 25) at token 96 of {LENGTH}: the same command goes on" in log
    assert [f"going on from token {place}" in log for place in (96, 192, 288)] == [True] * 3
    monkeypatch.undo()
    assert_same_files(tmp_path, whole)


def test_an_end_before_the_end_has_a_status_of_its_own(flags, whole, tmp_path):
    flags = (*flags, *LAMBDA, "--streaming_length", 10**6, "--max_seconds", 1, "--log_dir", tmp_path)
    run = run_script(SCRIPT, *flags)
    assert run.returncode == 75 and run.stderr.count("error") == 0, run.stderr
    assert "the time is up (--max_seconds 1) at token " in run.stdout and "Traceback" not in run.stderr
    assert StreamCheckpoints(tmp_path).newest(Console()).state["chunks"] == len(samples(tmp_path))


def test_lines_are_synced_with_checkpoints_and_at_the_end_only(flags, tmp_path, monkeypatch):
    steps, sync, finish, commit = [], Trial.sync_samples, Trial.finish, StreamCheckpoints.commit
    monkeypatch.setattr(Trial, "sync_samples", lambda self: (sync(self), steps.append("lines")))
    monkeypatch.setattr(Trial, "finish", lambda self, found: (steps.append("finished"), finish(self, found)))
    monkeypatch.setattr(
        StreamCheckpoints, "commit", lambda self, number, *rest: (steps.append(number), commit(self, number, *rest))
    )
    run_here(*flags, *LAMBDA, "--save_steps", 4, "--log_dir", tmp_path)
    assert steps == ["lines", 4, "lines", 8, "lines", "finished"]
