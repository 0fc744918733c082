"""Locks that builds of extensions have left, or hold."""

import os
import shutil
import time

import pytest
import torch
from torch.utils.file_baton import FileBaton

from utils.console import Console
from utils.ranks import extension_builds
from utils.ranks.deepspeed import join_deepspeed
from utils.ranks.extension_builds import clear_stale_builds
from utils.ranks.runtime import Runtime


@pytest.fixture
def lock(tmp_path, monkeypatch):
    """A lock as torch makes it, in the folder of an extension of DeepSpeed's, held by nobody."""
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    folder = tmp_path / "py311_cpu" / "deepspeed_shm_comm"
    folder.mkdir(parents=True)
    baton = FileBaton(folder / "lock")
    assert baton.try_acquire()
    os.close(baton.fd)
    (folder / "shm.o").touch()
    return folder / "lock"


def age(lock, seconds):
    then = time.time() - seconds
    for path in lock.parent.iterdir():
        os.utime(path, (then, then))


def test_a_lock_that_was_left_is_removed_and_named(lock, capsys):
    age(lock, 61)
    clear_stale_builds(Console())
    assert capsys.readouterr().out == f"{lock} was left by a build that was killed, and is removed\n"
    assert not lock.exists() and (lock.parent / "shm.o").exists()


def test_one_that_may_be_another_hosts_is_left_until_its_folder_is_quiet(lock, monkeypatch, capsys):
    monkeypatch.setattr(extension_builds, "STALE_AFTER", 0.6)
    begun = time.monotonic()
    clear_stale_builds(Console())
    assert time.monotonic() - begun > 0.4 and not lock.exists()
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"nobody here holds {lock}: it is removed unless its build goes on within a minute"
    assert second.endswith("was left by a build that was killed, and is removed")


def test_a_build_that_ends_meanwhile_is_waited_for(lock, monkeypatch, capsys):
    monkeypatch.setattr(extension_builds.time, "sleep", lambda seconds: lock.unlink())
    clear_stale_builds(Console())
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_the_lock_of_a_living_build_is_named_and_kept(lock, capsys):
    age(lock, 1000)
    with lock.open():
        clear_stale_builds(Console())
    assert lock.exists()
    said = f"process {os.getpid()} builds deepspeed_shm_comm: waiting for it ({lock})\n"
    assert capsys.readouterr().out == said


def test_a_build_whose_folder_goes_meanwhile_is_no_error(lock, monkeypatch):
    monkeypatch.setattr(extension_builds, "_owner", lambda lock: shutil.rmtree(lock.parent, ignore_errors=True))
    clear_stale_builds(Console(silent=True))
    assert not lock.parent.exists()


def test_a_link_to_the_folder_is_followed(lock, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(lock.parents[1])
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "link"))
    age(lock, 1000)
    with lock.open():
        clear_stale_builds(Console(silent=True))
    assert lock.exists()


def test_deepspeed_is_joined_after_that(lock):
    age(lock, 61)
    before = torch.distributed.is_initialized()
    join_deepspeed(
        Runtime(rank=0, world_size=1, device=torch.device("cpu"), console=Console(silent=True), messages=None)
    )
    if not before:
        torch.distributed.destroy_process_group()
    assert not lock.exists()
