"""Copies on the CPU: of the moment they were begun at, and from a GPU without anyone waiting."""

import pytest
import torch
from torch._subclasses import FakeTensorMode

from models.scoring import host_copy
from models.scoring.host_copy import HostCopies
from tests.fake_cuda import GPU


@pytest.mark.parametrize("rows", [1, 3])
def test_copies_stay_as_they_were(rows):
    tensor = torch.arange(24.0).view(3, 8)
    copies = HostCopies({"part": tensor[:rows, ::2]})
    expected = tensor[:rows, ::2].clone()
    tensor.zero_()
    found = copies.wait()["part"]
    assert torch.equal(found, expected) and found.is_contiguous()


class Event:
    """Of a GPU: remembers what it was recorded behind, and whether it was waited for."""

    def __init__(self, behind):
        self.behind, self.waits = behind, 0

    def synchronize(self):
        self.waits += 1


class Pinned:
    """Pinned memory, which remembers how it was filled."""

    def __init__(self, like):
        self.like, self.given = like, []

    def copy_(self, tensor, non_blocking):
        self.given.append((tensor, non_blocking))
        return self


def test_a_gpu_copies_by_itself_and_one_event_behind_all_copies_of_a_device_says_when(monkeypatch):
    begun, events = [], []

    def pinned(like):
        begun.append(Pinned(like))
        return begun[-1]

    def end_of_what_is_told(device):
        events.append(Event((device, len(begun))))
        return events[-1]

    monkeypatch.setattr(host_copy, "_pinned", pinned)
    monkeypatch.setattr(host_copy, "_end_of_what_is_told", end_of_what_is_told)
    with FakeTensorMode():
        tensors = {name: torch.empty(1, 2, device=GPU) for name in "ab"} | {"c": torch.empty(1, 2, device="cuda:6")}
    copies = HostCopies(tensors)
    assert [pinned.given for pinned in begun] == [[(tensor, True)] for tensor in tensors.values()]
    assert {event.behind for event in events} == {(torch.device(GPU), 3), (torch.device("cuda:6"), 3)}
    assert not any(event.waits for event in events)  # the next chunk does not wait
    assert list(copies.wait().values()) == begun
    assert [event.waits for event in events] == [1, 1]
