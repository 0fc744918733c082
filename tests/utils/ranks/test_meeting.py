"""What ranks tell each other before they compute: which cores they share, and that none takes another's GPU."""

import os
import socket
import threading
from types import SimpleNamespace

import pytest
import torch

from tests.scripts.running import free_port
from utils.errors import SharedError, UserError
from utils.ranks import runtime
from utils.ranks.launch import Place
from utils.ranks.meeting import Member, meet, name_ranks

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def member(host, cores=(), gpu=None, machine=None):
    return Member(host, machine or host, cores, gpu)


@pytest.fixture
def port(monkeypatch):
    port = free_port()
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", port)
    return int(port)


def meet_all(members, port, timeout=20):
    """What `meet` gives or raises on each rank."""
    found = [None] * len(members)

    def one(rank):
        try:
            found[rank] = meet(Place(rank, len(members), 0, "127.0.0.1", port), members[rank], timeout)
        except UserError as error:
            found[rank] = error

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(len(members))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_every_rank_knows_all(port):
    members = [member("a", [0, 1], "GPU-1"), member("a", [2, 3], "GPU-2"), member("b", [0, 1], "GPU-3")]
    assert [known for _, known in meet_all(members, port)] == [members] * 3


def test_ranks_that_take_one_gpu_are_refused(port):
    """As two would that see one GPU, which was given to both."""
    members = [member("a", gpu="GPU-1"), member("a", gpu="GPU-2"), member("a", gpu="GPU-1"), member("a", gpu="GPU-1")]
    for error in meet_all(members, port):
        assert isinstance(error, SharedError)
        assert str(error).startswith("ranks 0, 2 and 3 on a take the same GPU (GPU-1): start one rank for each GPU")


def test_a_rank_tells_its_host_and_cores():
    here = Member.here(CPU)
    assert here.host == socket.gethostname() and here.gpu is None
    assert here.cores == sorted(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    "visible, identity",
    [(None, "GPU-7"), ("3", "GPU-7"), ("GPU-7", "GPU-7"), ("MIG-1,MIG-2", "GPU-7MIG-1")],
)
def test_a_gpu_is_known_by_its_identity_and_a_slice_by_its_own(monkeypatch, visible, identity):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="GPU-7"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert Member.here(GPU).gpu == identity


def test_ranks_in_words():
    members = [member("a"), member("a"), member("b"), member("b"), member("b")]
    assert name_ranks([1], members) == "rank 1 on a"
    assert name_ranks([0, 1, 4], members) == "ranks 0 and 1 on a, rank 4 on b"
    assert name_ranks([2, 3, 4], members) == "ranks 2, 3 and 4 on b"


@pytest.mark.parametrize(
    "members, threads",
    [
        ([member("a"), member("a"), member("b")], 4),
        ([member("a", [0, 1]), member("a", [0, 1])], 4),
        ([member("a", [0, 1]), member("a", [2, 3])], 8),  # each was given cores of its own
        ([member("a", [0, 1], machine="m"), member("b", [1], machine="m")], 4),  # containers
        ([member("a"), member("b"), member("c")], 8),
    ],
)
def test_cores_are_shared_with_the_ranks_that_run_on_them(monkeypatch, members, threads):
    taken = []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    runtime._share_cores(CPU, 0, members)
    assert taken == [threads]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    runtime._share_cores(CPU, 0, members)
    runtime._share_cores(GPU, 0, members)
    assert taken == [threads]


@pytest.mark.parametrize("count, local_rank, index", [(1, 0, 0), (1, 3, 0), (4, 3, 3)])
def test_a_local_rank_takes_its_gpu_or_the_only_one_it_sees(monkeypatch, count, local_rank, index):
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    assert runtime._choose_device(local_rank) == torch.device("cuda", index)
    assert taken == [torch.device("cuda", index)]
    if count > 1:
        with pytest.raises(UserError, match="rank 4 of this machine has no GPU: start at most 4 ranks"):
            runtime._choose_device(count)


class Group:
    def __init__(self):
        self.timeouts = []

    def set_timeout(self, timeout):
        self.timeouts.append(timeout)


@pytest.mark.parametrize("device, backend", [(CPU, "gloo"), (GPU, "nccl")])
def test_groups_are_made_for_the_device_and_wait_for_ranks_that_live(monkeypatch, device, backend):
    made, messages, world = {}, Group(), Group()
    monkeypatch.setattr(runtime.dist, "init_process_group", lambda backend, **more: made.update(more, backend=backend))
    monkeypatch.setattr(runtime.dist, "new_group", lambda **more: messages)
    monkeypatch.setattr(runtime.dist, "group", SimpleNamespace(WORLD=world))
    assert runtime._join_ranks(device, Place(1, 2, 0, "a", 1), "store", 60) is messages
    assert made["backend"] == backend and made["device_id"] == (device if device is GPU else None)
    assert (made["store"], made["rank"], made["world_size"]) == ("store", 1, 2)
    assert messages.timeouts == [runtime.MESSAGE_TIMEOUT]
    assert world.timeouts == ([] if device is GPU else [runtime.MESSAGE_TIMEOUT])
    assert device is CPU or made["timeout"] == runtime.MESSAGE_TIMEOUT


def test_connections_that_cannot_be_opened_are_one_sentence(monkeypatch):
    def refuse(*_, **more):
        raise RuntimeError("Unable to find address for: eth7\nframe #0")

    monkeypatch.setattr(runtime.dist, "init_process_group", refuse)
    with pytest.raises(UserError, match=r"rank 1 on .* \(Unable to find address for: eth7\): GLOO_SOCKET_IFNAME"):
        runtime._join_ranks(CPU, Place(1, 2, 0, "a", 1), None, 60)
