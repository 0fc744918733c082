"""Keys and values from rank to rank, point to point: NCCL for tensors on a GPU, gloo for those on the CPU."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from ...errors import LostPeerError
from ..prefill.segment import KeysValues


class Message:
    """Keys and values on their way: `wait` gives them once they are here."""

    def __init__(self, buffer: Tensor, head_dim: int, works: list[dist.Work]) -> None:
        self._buffer, self._head_dim, self._works = buffer, head_dim, works

    def wait(self) -> KeysValues:
        """Raises LostPeerError."""
        _wait_for(self._works)
        return self._buffer[..., : self._head_dim], self._buffer[..., self._head_dim :]


class Mail:
    """What one rank sends and receives in one layer: named first, then started together by `post`.

    Two ranks name what passes between them in the same order. `finish` keeps what is sent alive until it has gone.
    """

    def __init__(self, group: dist.ProcessGroup, key: Tensor, value: Tensor) -> None:
        """key, value: `[B, Hkv, n, .]`, whose rows, heads, widths, dtype and device all messages have."""
        self.group, self._key, self._width = group, key, key.shape[-1] + value.shape[-1]
        self._operations: list[dist.P2POp] = []
        self._sending: list[dist.Work] = []
        self._coming: list[Message] = []
        self._kept: list[Tensor] = []
        self.bytes_sent = 0

    def send(self, rank: int, key: Tensor, value: Tensor) -> None:
        """Send a rank of the group keys and values, in one message."""
        packed = torch.cat((key, value), -1)
        self.bytes_sent += packed.nbytes
        self._name(dist.isend, packed, rank)

    def receive(self, rank: int, tokens: int) -> None:
        """Receive those of so many tokens from a rank of the group."""
        self._name(dist.irecv, self._key.new_empty(*self._key.shape[:2], tokens, self._width), rank)

    def _name(self, direction: Callable, packed: Tensor, rank: int) -> None:
        self._operations.append(dist.P2POp(direction, packed, group=self.group, group_peer=rank))

    def post(self) -> list[Message]:
        """Start all that was named since the last time; what is received, in the order in which it was named."""
        operations, self._operations = self._operations, []
        if not operations:
            return []
        with hearing_others():
            works = dist.batch_isend_irecv(operations)
        self._kept += [operation.tensor for operation in operations]
        if len(works) < len(operations):  # NCCL has one for all of them
            self._sending += works
            works_of = [works] * len(operations)
        else:
            works_of = [[work] for work in works]
            self._sending += [work for work, operation in zip(works, operations) if operation.op is dist.isend]
        coming = [
            Message(operation.tensor, self._key.shape[-1], list(own))
            for operation, own in zip(operations, works_of)
            if operation.op is dist.irecv
        ]
        self._coming += coming
        return coming

    def finish(self) -> None:
        """Wait for all: what nobody has asked for would be taken for the next message. Raises LostPeerError."""
        for message in self._coming:
            message.wait()
        _wait_for(self._sending)
        self._coming.clear()
        self._kept.clear()


def _wait_for(works: list[dist.Work]) -> None:
    """Wait for each, and only once: gloo would wait for another message."""
    with hearing_others():
        while works:
            works.pop().wait()


@contextmanager
def hearing_others() -> Iterator[None]:
    """Within it ranks wait for each other. Raises LostPeerError where one is no more."""
    try:
        yield
    except RuntimeError as error:
        raise LostPeerError(f"another rank of the sequence_group is no more: {error}") from error
