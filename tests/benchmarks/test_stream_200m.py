"""The long stream in pieces, tried out on the CPU with a tiny model: really killed, and gone on with."""

import subprocess
import sys

import pytest

from tests.scripts.running import ROOT, environment, results

LENGTH = 250
# In the place of `timeout` on PATH: its arguments are kept, and the time is up at the first new checkpoint, however
# fast the machine is, until the stream has 200 tokens.
TIME_IS_UP_AT_A_CHECKPOINT = f"""#!{sys.executable}
import os, runpy, signal, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from scripts.streaming.checkpoints import StreamCheckpoints

def commit_and_die(self, number, *rest):
    commit(self, number, *rest)
    if number <= 20:
        os.kill(os.getpid(), signal.SIGKILL)

Path(os.environ["LOG_DIR"] + ".limit").write_text(" ".join(sys.argv[1:5]))
commit, StreamCheckpoints.commit = StreamCheckpoints.commit, commit_and_die
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
    (tmp_path / "bin" / "timeout").write_text(TIME_IS_UP_AT_A_CHECKPOINT)
    (tmp_path / "bin" / "timeout").chmod(0o755)
    settings = {"MODEL": tiny_llama_dir, "DATASET": tmp_path / "texts", "LENGTH": LENGTH, "CHUNK": 10, "SAVE_STEPS": 10}
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
    first = piece()
    assert first.returncode == 75, first.stderr
    assert (tmp_path / "logs.limit").read_text() == "--foreground -s KILL 540"
    assert "100 of 250 tokens (40.0%), " in first.stdout and " tokens/s and " in first.stdout
    assert "a restart goes on from 100\n" in first.stdout
    assert not (tmp_path / "results").exists()
    rest = piece("--all")
    assert rest.returncode == 0, rest.stderr
    said = (
        "going on from token 100 of",
        "goes on from 200\n",
        "going on from token 200 of",
        "250 of 250 tokens (100.0%)",
    )
    places = [rest.stdout.index(words) for words in said]
    assert places == sorted(places)
    assert results(tmp_path / "results")["tokens"] == LENGTH - 1
    assert {path.name for path in (tmp_path / "results").iterdir()} == {"results.json", "stats.npz", "nll.png"}


def test_a_piece_too_short_for_a_checkpoint_is_an_error_and_not_an_endless_loop(piece):
    run = piece("--all", seconds=0.5)
    assert run.returncode == 1
    assert "killed before a new checkpoint was written: give a longer PIECE_SECONDS (it is 0.5)" in run.stderr


def test_an_error_of_the_evaluation_ends_all_pieces_with_its_status(piece):
    run = piece("--all", "--no_such_flag", seconds=60)
    assert run.returncode == 2 and "no_such_flag" in run.stderr


def test_an_unknown_device_is_refused(piece):
    run = piece(DEVICE="tpu")
    assert run.returncode == 1 and run.stderr == "error: DEVICE=tpu is neither cuda nor cpu\n"
