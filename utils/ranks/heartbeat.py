"""Ranks hear that the others live: one that computes is waited for as long as it takes, one that is gone is not.

A thread of each rank writes a growing number into the store that all share. The first rank reads them all; the others
read the first one's, beside which it says who is lost. A second thread only looks at the clock, so it ends the process
where the store's host is gone and the first thread hangs, and the main thread in a message that nobody answers.
"""

import json
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import torch.distributed as dist

from utils.console import Console
from utils.program import LOST_RANK_STATUS, end_process
from utils.ranks.meeting import Member, name_ranks

BEATS = 20
"""A rank beats so often within the timeout, or every LONGEST_PAUSE seconds."""
LONGEST_PAUSE = 5.0
SILENCE = 0.9
"""Who is silent for this share of the timeout is lost: with what it takes to tell the others, all end within it."""
GOES_ON = "what is done is kept, and the same command without --overwrite goes on where it stopped"


class Heartbeat:
    """A context: in it the process is ended, with status 1 and one sentence, when another rank is lost.

    store: what all ranks share; clients of its own are opened. timeout: seconds after which a rank that is not heard
    of counts as lost. console: the first rank's shows the sentence, and logs it.
    """

    def __init__(
        self, store: dist.Store, rank: int, members: Sequence[Member], timeout: float, console: Console
    ) -> None:
        self._store, self._claims = store.clone(), store.clone()  # one client serves one thread
        self._rank, self._members, self._timeout, self._console = rank, members, timeout, console
        self._pause = min(LONGEST_PAUSE, timeout / BEATS)
        others = range(1, len(members)) if rank == 0 else [0]
        self._beats = dict.fromkeys(others, b"")
        self._heard = dict.fromkeys(others, time.monotonic())
        self._lost = ""
        self._says: bool | None = None
        self._asking = threading.Lock()
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._beat, self._watch)]

    def __enter__(self) -> Self:
        self._tell(0)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(2 * self._pause)  # one that hangs in a message ends with the process

    def claim(self) -> bool:
        """Whether this rank is to say that another has ended: the first that asks, on each host where none can ask.

        Any thread may ask, and all of one rank get the same answer.
        """
        with self._asking:
            if self._says is None:
                try:
                    self._says = self._claims.add("said", 1) == 1
                except RuntimeError:  # the store went with the first rank
                    self._says = self._is_first_left()
            return self._says

    def _is_first_left(self) -> bool:
        """Whether this is the first rank of its host, once rank 0 is gone."""
        host = self._members[self._rank].host
        return self._rank == next(rank for rank, member in enumerate(self._members) if rank and member.host == host)

    def _beat(self) -> None:
        number = 0
        while not self._stopped.wait(self._pause):
            number += 1
            try:
                self._tell(number)
                self._hear()
            except RuntimeError:
                return  # the store is gone: nobody is heard any more, which `_watch` sees

    def _tell(self, number: int) -> None:
        self._store.set(f"beat/{self._rank}", json.dumps([number, self._lost]))

    def _hear(self) -> None:
        beats = self._store.multi_get([f"beat/{rank}" for rank in self._beats])
        for rank, beat in zip(self._beats, beats):
            if beat != self._beats[rank]:
                self._beats[rank], self._heard[rank] = beat, time.monotonic()

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._stopped.wait(self._pause):
            now = time.monotonic()
            self._forgive(now - looked - self._pause)
            looked = now
            if 0 in self._beats and self._beats[0] and json.loads(self._beats[0])[1]:
                end_process(None, LOST_RANK_STATUS)  # the first rank has said it
            if any(now - heard > SILENCE * self._timeout for heard in self._heard.values()):
                self._end(now)

    def _forgive(self, late: float) -> None:
        """Time in which this process itself stood still, such as after Ctrl-Z, is no silence of others."""
        if late > self._pause:
            for rank in self._heard:
                self._heard[rank] += late

    def _end(self, now: float) -> None:
        # ranks of one host fall silent together, but for a beat
        limit = SILENCE * self._timeout - 2 * self._pause
        lost = [rank for rank, heard in self._heard.items() if now - heard > limit]
        self._lost = (
            f"lost {name_ranks(lost, self._members)}, not heard of for --rank_timeout {self._timeout:g} seconds "
            f"(killed, stopped, or its host or network is gone): {GOES_ON}"
        )
        if self._rank == 0:
            self._console.fail(self._lost)
            time.sleep(2 * self._pause)  # the next beat tells the others
            end_process(None, LOST_RANK_STATUS)
        end_process(self._lost if self._is_first_left() else None, LOST_RANK_STATUS)
