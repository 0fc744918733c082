"""Work shared out over threads: all of it, once, by threads that compute alone."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from models.attention import workers
from models.attention.workers import run_shared

ROOT = Path(__file__).resolve().parents[3]
shares = pytest.mark.skipif(workers._pool(2) is None, reason="torch has another OpenMP, or this process one core")


def threads_of_each_library() -> tuple[int, ...]:
    """What torch, OpenMP and MKL say, without what they agree on."""
    told = re.findall(r"(?:get_num_threads|max_threads)\(\) : (\d+)", torch.__config__.parallel_info())
    return tuple(sorted(set(map(int, told))))


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@shares
def test_all_pieces_are_done_once_by_several_threads_that_compute_alone():
    done, both = [], threading.Barrier(2)

    def do(piece: int, wait: bool) -> None:
        if wait:
            both.wait(timeout=60)  # two are at it at once
        done.append((piece, threading.current_thread().name, threads_of_each_library()))

    run_shared(do, [(piece, piece < 2) for piece in range(40)])
    assert sorted(piece for piece, _, _ in done) == list(range(40))
    assert len({name for _, name, _ in done}) == 2 and {threads for _, _, threads in done} == {(1,)}
    assert threads_of_each_library() == (2,), "of the thread that asked"


@shares
def test_an_error_of_a_piece_is_that_of_the_call():
    def do(piece: int) -> None:
        if piece == 3:
            raise ValueError("piece 3")

    with pytest.raises(ValueError, match="^piece 3$"):
        run_shared(do, [(piece,) for piece in range(8)])
    run_shared(do, [(piece,) for piece in range(3)])


@shares
def test_several_threads_may_ask_at_once():
    done = [[] for _ in range(4)]

    def ask(mine: list) -> None:
        torch.set_num_threads(2)
        run_shared(mine.append, [(piece,) for piece in range(200)])

    asking = [threading.Thread(target=ask, args=(mine,)) for mine in done]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(timeout=60)
    assert [sorted(mine) for mine in done] == 4 * [list(range(200))]


@pytest.mark.parametrize("wrong", ["no library", "no such function", "no more threads"])
def test_where_threads_cannot_be_begun_nobody_waits_for_ever(wrong, monkeypatch):
    monkeypatch.setattr(workers, "_pools", {})
    if wrong == "no library":
        monkeypatch.setattr(workers, "openmp_runtimes", lambda: {"/no/such/libgomp.so"})
    elif wrong == "no such function":
        monkeypatch.setattr(workers, "openmp_runtimes", lambda: {"libc.so.6"})
    else:
        monkeypatch.setattr(threading.Thread, "start", lambda thread: (_ for _ in ()).throw(RuntimeError("no more")))
    done = []
    run_shared(done.append, [(piece,) for piece in range(3)])
    assert done == [0, 1, 2]


@pytest.mark.parametrize("inference", [True, False])
def test_nothing_is_recorded_for_gradients(inference):
    found = []

    def do(_: int) -> None:
        found.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))

    with torch.inference_mode(inference), torch.no_grad():
        run_shared(do, [(piece,) for piece in range(8)])
    assert found == 8 * [(inference, False)]


def test_one_thread_does_all_of_it_itself():
    torch.set_num_threads(1)
    names = []

    def do(_: int) -> None:
        names.append(threading.current_thread())

    run_shared(do, [(piece,) for piece in range(5)])
    assert names == 5 * [threading.current_thread()]


def test_threads_that_cannot_be_told_to_compute_alone_are_not_used(monkeypatch):
    monkeypatch.setattr(workers, "_pools", {})
    monkeypatch.setattr(workers, "openmp_runtimes", list)
    assert workers._pool(2) is None
    monkeypatch.setattr(workers, "_pools", {})
    monkeypatch.setattr(workers, "cores", lambda: 1)
    assert workers._pool(2) is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_forked_child_has_threads_of_its_own():
    """In a process of its own: torch's threads, of which a fork leaves nothing, are many here."""
    program = """
import os, sys, threading, torch
from models.attention.workers import run_shared
torch.set_num_threads(2)
done = []
run_shared(done.append, [(piece,) for piece in range(9)])
child = os.fork()
if child == 0:
    run_shared(done.append, [(piece,) for piece in range(9)])
    os._exit(0 if len(done) == 18 else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
