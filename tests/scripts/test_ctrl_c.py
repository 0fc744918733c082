"""Ctrl-C under deepspeed's launcher, whose traceback must not be the last that a user reads."""

import os
import signal
import subprocess
import time

import pytest

from tests.scripts.running import ROOT, command, environment, run_script

SCRIPT = "eval_infinite_ppl"


@pytest.fixture(autouse=True)
def interrupts_count():
    """Also where the tests run in the background of a shell, whose children ignore them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_way_on_is_said_after_the_launchers_traceback_and_in_the_log(tiny_llama_dir, tmp_path):
    log = tmp_path / "log"
    flags = ("--model", tiny_llama_dir, "--dataset", "plays", "--use_lambda_attention", "--local_branch", 8)
    flags += ("--max_length", 16, "--log_dir", log)
    line = command(SCRIPT, *flags, "--streaming_length", 10**7, ranks=1)
    with open(tmp_path / "out", "w") as out:
        run = subprocess.Popen(
            line, cwd=ROOT, env=environment(), stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        end = time.monotonic() + 120
        while not (log / "samples.jsonl").exists() and time.monotonic() < end:
            time.sleep(0.1)
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does
        run.wait(timeout=60)
    said = "; the same command without --overwrite goes on where it stopped"
    end = time.monotonic() + 30
    while said not in (tmp_path / "out").read_text() and time.monotonic() < end:
        time.sleep(0.1)
    lines = (tmp_path / "out").read_text().splitlines()
    (last,) = [line for line in lines if line.startswith("error: ") and line.endswith(said)]
    assert lines.index("KeyboardInterrupt") < lines.index(last)
    assert (log / "log.txt").read_text().splitlines()[-1] == last
    done = run_script(SCRIPT, *flags, "--streaming_length", 10**7, "--max_seconds", 1)
    assert done.returncode == 75, done.stderr
