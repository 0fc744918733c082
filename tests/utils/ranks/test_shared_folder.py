"""A log dir that is another folder on another host is noticed before anything is computed."""

import threading
from pathlib import Path

import pytest
import torch

from utils.console import Console
from utils.errors import SharedError, UserError
from utils.ranks import shared_folder
from utils.ranks.runtime import Runtime
from utils.ranks.shared_folder import check_shared

ALONE = Runtime(rank=0, world_size=1, device=torch.device("cpu"), console=Console(), messages=None)


class Together(Runtime):
    """Ranks that are threads: what each says is known to all once all have said it."""

    def gather(self, value):
        values, barrier = self.messages
        barrier.wait()
        values[self.rank] = value
        barrier.wait()
        return list(values) if self.is_main else []

    def broadcast(self, value):
        values, barrier = self.messages
        barrier.wait()
        if self.is_main:
            values[0] = value
        barrier.wait()
        return values[0]


def check_on(folders, needed):
    """What `check_shared` raises on each rank, whose log dir is folders[rank]."""
    messages, found = ([None] * len(folders), threading.Barrier(len(folders))), [None] * len(folders)

    def one(rank):
        runtime = Together(rank, len(folders), torch.device("cpu"), Console(silent=rank != 0), messages)
        try:
            check_shared(folders[rank], needed, runtime)
        except UserError as error:
            found[rank] = error

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(len(folders))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_folder, "PATIENCE", 0.3)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    return tmp_path / "a", tmp_path / "b"


@pytest.mark.parametrize("needed", [True, False])
def test_one_folder_is_fine_and_nothing_is_left_in_it(folders, needed, capsys):
    a, _ = folders
    assert check_on([a, a, a], needed) == [None] * 3
    assert list(a.iterdir()) == [] and capsys.readouterr().out == ""


def test_two_folders_are_refused_by_all_where_every_rank_writes(folders):
    a, b = folders
    first, second, third = check_on([a, b, a], needed=True)
    assert all(isinstance(error, SharedError) for error in (first, second, third))
    assert "is one folder on " in str(first) and f"({a}) and another on " in str(first) and f"({b}): " in str(first)
    assert list(a.iterdir()) == list(b.iterdir()) == []


def test_two_folders_are_said_where_only_the_first_rank_writes(folders, capsys):
    a, b = folders
    assert check_on([a, b], needed=False) == [None, None]
    (line,) = capsys.readouterr().out.splitlines()
    assert "is not shared: the results are on " in line and f"({a}), not on " in line and line.endswith(f"({b})")


def test_a_folder_that_shows_late_is_waited_for(folders, monkeypatch):
    monkeypatch.setattr(shared_folder, "PATIENCE", 20.0)
    a, b = folders
    late = b / "late"
    timer = threading.Timer(0.5, late.symlink_to, [a])
    timer.start()
    assert check_on([a, late], needed=True) == [None, None]


def test_a_folder_that_cannot_be_written_is_one_sentence(folders):
    errors = check_on([Path("/proc/nowhere"), folders[0]], needed=True)
    assert all("--log_dir /proc/nowhere cannot be written" in str(error) for error in errors)


def test_a_rank_alone_asks_nobody(tmp_path):
    check_shared(tmp_path / "nowhere", True, ALONE)
