"""Signals that end a run: noted while work is done, else at once; and launchers that are gone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from utils.errors import Stopped
from utils.ranks.stopping import SIGNALS, Stopping

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import sys, time
from utils.program import run_main
def main():
    print("running", flush=True)
    time.sleep(60)
run_main(main, resumes=True)
"""
LAUNCHER = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {SCRIPT!r}]); time.sleep(60)"


@pytest.fixture(autouse=True)
def hangups_count():
    """Also where the tests run under nohup, whose children ignore them."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def start(code, **variables):
    environment = {"PATH": os.environ["PATH"], **variables}
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True
    )
    assert process.stdout.readline() == "running\n"
    return process


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGUSR1, 138)])
def test_a_signal_ends_in_a_sentence_and_its_status(number, status):
    process = start(SCRIPT)
    process.send_signal(number)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == status
    assert said == f"error: ended by {number.name}; the same command without --overwrite goes on where it stopped\n"


def test_a_rank_whose_launcher_is_killed_ends_within_10_seconds():
    launcher = start(LAUNCHER, CROSS_SIZE="1")
    killed = time.monotonic()
    launcher.kill()
    said = launcher.communicate(timeout=30)[1]  # the rank holds the other end until it has ended
    assert time.monotonic() - killed < 10 and said.startswith("error: ended by SIGTERM; the same command")


def test_without_a_launcher_the_parent_may_go():
    parent = start(LAUNCHER)
    parent.kill()
    with pytest.raises(subprocess.TimeoutExpired):
        parent.communicate(timeout=5)
    parent.stdout.close()
    child = next(
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if path.read_bytes().split(b"\0")[2:3] == [SCRIPT.encode()]
    )
    os.kill(child, signal.SIGKILL)


@pytest.fixture
def stopping():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    stopping = Stopping()
    stopping.listen()
    yield stopping
    for number, handler in before.items():
        signal.signal(number, handler)


def test_while_work_is_done_the_first_signal_is_noted_and_no_other(stopping):
    with stopping.deferred():
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
    assert stopping.received == signal.SIGUSR1
    os.kill(os.getpid(), signal.SIGTERM)  # a launcher repeats it


def test_elsewhere_it_is_raised(stopping):
    with pytest.raises(Stopped) as raised:
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(1)
    assert raised.value.number == signal.SIGHUP


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    Stopping().listen()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    signal.signal(signal.SIGHUP, before)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
