"""The long stream in pieces, tried out on the CPU with a tiny model: ended, really killed, and gone on with."""

import re
import subprocess
import sys

import pytest

from tests.scripts.running import ROOT, environment, results

LENGTH = 250
# In the place of `timeout` on PATH: its arguments are kept, and the time is up at once, however fast the machine is,
# after the 10th and the 20th chunk: by a kill at the end of the checkpoint then, or by the clock of the script itself.
TIME_IS_UP = f"""#!{sys.executable}
import os, runpy, signal, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from scripts.streaming.checkpoints import StreamCheckpoints
from scripts.streaming.schedule import STOP, Schedule

def commit_and_die(self, number, *rest):
    commit(self, number, *rest)
    if number <= 20:
        os.kill(os.getpid(), signal.SIGKILL)

def stop(self, chunks, is_writing):
    return STOP if chunks in (10, 20) else decide(self, chunks, is_writing)

Path(os.environ["LOG_DIR"] + ".limit").write_text(" ".join(sys.argv[1:]))
commit, decide = StreamCheckpoints.commit, Schedule.decide
if "ENDS_ITSELF" in os.environ:
    Schedule.decide = stop
else:
    StreamCheckpoints.commit = commit_and_die
sys.argv = sys.argv[6:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def piece(tiny_llama_dir, tmp_path):
    """Runs a piece; `timeout` is replaced as above unless `seconds` are given."""
    (tmp_path / "texts").mkdir()
    for index in range(3):
        (tmp_path / "texts" / f"{index}.txt").write_text("the cat and the hat. " * (10 + index))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "timeout").write_text(TIME_IS_UP)
    (tmp_path / "bin" / "timeout").chmod(0o755)
    settings = {"MODEL": tiny_llama_dir, "DATASET": tmp_path / "texts", "LENGTH": LENGTH, "CHUNK": 10}
    settings |= {"DEVICE": "cpu", "LOG_DIR": tmp_path / "logs", "RESULTS": tmp_path / "results"}

    def run(*flags, seconds=None, **changed):
        given = environment() | {name: str(value) for name, value in (settings | changed).items()}
        if seconds is None:
            given["PATH"] = f"{tmp_path / 'bin'}:{given['PATH']}"
        else:
            given["PIECE_SECONDS"] = str(seconds)
        line = [ROOT / "benchmarks" / "stream_200m.sh", *flags, "--local_branch", "32"]
        return subprocess.run(line, env=given, cwd=tmp_path, capture_output=True, text=True, timeout=240)

    return run


def test_killed_pieces_say_where_the_stream_stands_and_all_of_them_finish_it(piece, tmp_path):
    first = piece(SAVE_STEPS=10)
    assert first.returncode == 75, first.stderr
    limit = (tmp_path / "logs.limit").read_text()
    assert limit.startswith("--foreground -s KILL 540 ") and " --save_seconds 60 --save_steps 10 " in limit
    reached = re.search(r": (\d+) of 250 tokens \([\d.]+%\), .* tokens/s and ", first.stdout)
    assert reached and 100 <= int(reached[1]) <= 250, first.stdout  # chunks are read on while the checkpoint is written
    assert "a restart goes on from 100\n" in first.stdout
    assert not (tmp_path / "results").exists()
    rest = piece("--all", SAVE_STEPS=10)
    assert rest.returncode == 0, rest.stderr
    going_on = [rest.stdout.index(f"going on from token {token} of") for token in (100, 200)]
    assert going_on[0] < rest.stdout.index("goes on from 200\n") < going_on[1]
    # A killed piece may have read all 250, too: what counts is that the last one says it after it has gone on.
    assert "250 of 250 tokens (100.0%)" in rest.stdout[going_on[1] :]
    assert results(tmp_path / "results")["tokens"] == LENGTH - 1
    assert {path.name for path in (tmp_path / "results").iterdir()} == {"results.json", "stats.npz", "nll.png"}


def test_pieces_end_by_themselves_and_nothing_is_lost_between_them(piece, tmp_path):
    for read in (100, 200):
        run = piece(ENDS_ITSELF="yes")
        assert run.returncode == 75, run.stderr
        assert f"the time is up (--max_seconds 450) at token {read} of 250: the same command goes on" in run.stdout
        assert f"{read} of 250 tokens ({read / 2.5:.1f}%), " in run.stdout and f"goes on from {read}\n" in run.stdout
        assert "--save_steps" not in (tmp_path / "logs.limit").read_text()
    rest = piece(ENDS_ITSELF="yes")
    assert rest.returncode == 0 and "going on from token 200 of" in rest.stdout, rest.stderr
    assert results(tmp_path / "results")["tokens"] == LENGTH - 1


def test_help_names_every_setting_and_the_default_of_it(piece):
    text = (ROOT / "benchmarks" / "stream_200m.sh").read_text()
    told = piece("--help")
    assert told.returncode == 0 and told.stdout.startswith("The NLL of 200,000,000 tokens in one stream")
    for name, default in re.findall(r"^([A-Z_]+)=\$\{\1:-([^}$]*)", text, re.M):
        assert f"  {name}={default}" in told.stdout, name


@pytest.mark.parametrize("seconds", ["0", "0.5", "ten"])
def test_a_time_that_is_none_is_refused(seconds, piece):
    run = piece(seconds=seconds)
    assert run.returncode == 1 and f"error: PIECE_SECONDS={seconds} is no number of seconds" in run.stderr


def test_a_piece_too_short_for_a_checkpoint_is_an_error_and_not_an_endless_loop(piece):
    run = piece("--all", seconds=1)
    assert run.returncode == 1
    assert "killed before a new checkpoint was written: give a longer PIECE_SECONDS (it is 1)" in run.stderr


def test_an_error_of_the_evaluation_ends_all_pieces_with_its_status(piece):
    run = piece("--all", "--no_such_flag", seconds=60)
    assert run.returncode == 2 and "no_such_flag" in run.stderr


def test_an_unknown_device_is_refused(piece):
    run = piece(DEVICE="tpu")
    assert run.returncode == 1 and run.stderr == "error: DEVICE=tpu is neither cuda nor cpu\n"
