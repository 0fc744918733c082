"""A stand-in for CUDA graphs on a machine without CUDA: a tape of operators, played back on the same memory.

with taped_graphs(monkeypatch) as tapes:
    ...  # DecodeGraph captures its step on a tape
assert tapes[0].replays == 9
"""

from contextlib import contextmanager, nullcontext

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models import decode_graph
from tests.fake_cuda import _is_view

SYNCS = (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero)


class Tape(TorchDispatchMode):
    """Records operators; `replay` runs them again, their results into the tensors that they made when recorded.

    A number that the host read is on the tape as it was then, as in a CUDA graph; reading one is an error, as there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.replays = [], 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        if operator.overloadpacket in SYNCS:
            raise RuntimeError(f"{operator} waits for the device, and a CUDA graph cannot hold it")
        output = operator(*args, **(kwargs or {}))
        self.calls.append((operator, args, kwargs or {}, output))
        return output

    def replay(self) -> None:
        self.replays += 1
        for operator, args, kwargs, output in self.calls:
            if _is_view(operator):
                continue
            for kept, new in zip(tree_leaves(output), tree_leaves(operator(*args, **kwargs)), strict=True):
                if isinstance(kept, torch.Tensor) and new.data_ptr() != kept.data_ptr():
                    kept.copy_(new)


class Stream:
    def wait_stream(self, other) -> None:
        pass


@contextmanager
def taped_graphs(monkeypatch):
    """DecodeGraph takes CUDA graphs, and these are tapes; gives the list of them, as they are made."""
    tapes = []

    def graph():
        tapes.append(Tape())
        return tapes[-1]

    with monkeypatch.context() as patch:
        patch.setattr(decode_graph, "_takes_graphs", lambda tokens: True)
        patch.setattr(torch.cuda, "Stream", Stream)
        patch.setattr(torch.cuda, "current_stream", Stream)
        patch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
        patch.setattr(torch.cuda, "CUDAGraph", graph)
        patch.setattr(torch.cuda, "graph", lambda tape: tape)
        yield tapes
