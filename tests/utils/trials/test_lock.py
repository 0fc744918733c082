"""Two runs in one log dir, on a file system that has no locks."""

import errno
import json
import os
import socket
import threading

import pytest

from utils.console import Console
from utils.errors import UserError
from utils.trials import lock
from utils.trials.trial import Trial


@pytest.fixture
def no_locks(monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)


def open_trial(folder):
    return Trial.open(str(folder), "script", {}, Console())


def test_it_is_said_and_a_second_run_is_refused_by_host_and_process(no_locks, tmp_path, capsys):
    running = open_trial(tmp_path)
    assert capsys.readouterr().out.count("without locks: running.json says who runs there") == 1
    with pytest.raises(UserError, match=f"in use by another run .process {os.getpid()} on {socket.gethostname()}.:"):
        open_trial(tmp_path)
    del running
    assert not (tmp_path / "running.json").exists()
    open_trial(tmp_path)


@pytest.mark.parametrize(
    "holder, seconds, free",
    [
        ({"host": "elsewhere", "process": 1}, 30, False),
        ({"host": "elsewhere", "process": 1}, 90, True),
        ({"host": socket.gethostname(), "process": 2**30}, 0, True),
        ([], 0, False),
    ],
)
def test_a_run_that_was_killed_counts_until_its_heart_has_stopped_for_long(holder, seconds, free, no_locks, tmp_path):
    path = tmp_path / "running.json"
    path.write_text(json.dumps(holder))
    os.utime(path, (path.stat().st_mtime - seconds,) * 2)
    if free:
        open_trial(tmp_path)
    else:
        with pytest.raises(UserError, match="in use by another run"):
            open_trial(tmp_path)


def test_the_heart_beats(no_locks, tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    running = open_trial(tmp_path)
    path = tmp_path / "running.json"
    os.utime(path, (0, 0))
    while path.stat().st_mtime == 0:
        pass
    del running


def test_a_folder_that_was_removed_is_said_to_be(tmp_path):
    trial = open_trial(tmp_path / "log")
    for path in (tmp_path / "log").iterdir():
        path.unlink()
    (tmp_path / "log").rmdir()
    with pytest.raises(UserError, match="was removed while this ran"):
        trial.append_samples([{"index": 0}])


def test_a_run_that_another_one_took_for_ended_ends(no_locks, tmp_path, monkeypatch, capfd):
    """It stood still for long, by Ctrl-Z say."""
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    ended, statuses = threading.Event(), []
    monkeypatch.setattr(lock, "end_process", lambda sentence, status: statuses.append(status) or ended.set())
    running = open_trial(tmp_path)
    path = tmp_path / "running.json"
    path.write_text(json.dumps({"host": "elsewhere", "process": 1}))
    assert ended.wait(20) and statuses[0] == 2
    assert f"--log_dir {tmp_path} is in use by another run, which took this one to have ended" in capfd.readouterr().err
    del running
    assert path.exists()  # it is the other's
