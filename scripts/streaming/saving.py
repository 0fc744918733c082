"""Checkpoints over ranks, written while the next chunk is computed; the first rank says when the whole counts."""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from models.scoring.host_copy import HostCopies
from models.scoring.stream_scorer import StreamScorer
from scripts.streaming.checkpoints import TRIAL, Checkpoint, StreamCheckpoints
from scripts.streaming.repairing import drop_unfit
from scripts.streaming.streams import Standing, Stream
from utils.errors import LostRankError, UserError
from utils.ranks.runtime import Runtime
from utils.trials.trial import Trial

Json = dict[str, Any]


def find_newest(checkpoints: StreamCheckpoints, trial: Trial | None, runtime: Runtime) -> Checkpoint | None:
    """The newest whole checkpoint, on every rank; None where there is none yet. Raises UserError.

    trial: None but on the first rank; where it is to be repaired, checkpoints that count what is damaged are dropped.
    """
    found = None
    with runtime.together():
        if runtime.is_main:
            if trial.repair:
                drop_unfit(checkpoints, trial)
            found = checkpoints.newest(runtime.console, trial.seals.key)
    where = runtime.broadcast([str(found.folder), found.state] if found else None)
    return Checkpoint(Path(where[0]), where[1]) if where else None


@dataclass(frozen=True)
class StreamState:
    """One stream at the end of a chunk: `described` is for a checkpoint's JSON, the others for its tensors."""

    stream: Stream
    described: Json
    sums: dict[str, Tensor]
    cache: HostCopies


@dataclass(frozen=True)
class Snapshot:
    """This rank's share of a checkpoint; what is computed after it was taken changes nothing in it."""

    number: int
    standing: Json
    states: list[StreamState]


class Saving:
    """Writes checkpoints in a thread, one at a time. Every rank has one, and calls the same methods in step.

    The threads of all ranks wait for each other, so a checkpoint counts once the files of all are written.
    """

    def __init__(self, checkpoints: StreamCheckpoints, trial: Trial | None, runtime: Runtime) -> None:
        """trial: None but on the first rank."""
        self._checkpoints, self._trial = checkpoints, trial
        self._runtime = runtime.apart()
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._pending: Future[None] | None = None

    @property
    def is_writing(self) -> bool:
        """Whether a checkpoint is not finished."""
        return self._pending is not None and not self._pending.done()

    def check(self) -> None:
        """Raise the error of a checkpoint that has failed."""
        if not self.is_writing:
            self.wait()

    def wait(self) -> None:
        """Have the checkpoint written that was begun. Raises its error."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def begin(self, streams: Sequence[Stream], scorer: StreamScorer, standing: Standing) -> None:
        """Copy what there is now, and have it written; the time until this returns counts as the trial's.

        streams: those that this rank keeps, which are the first rows of its scorer. Raises the error of the one before.
        """
        started = time.monotonic()
        self.wait()
        states = [
            StreamState(stream, stream.describe(), stream.tensors(), scorer.state(row))
            for row, stream in enumerate(streams)
        ]
        standing.seconds += time.monotonic() - started
        self._pending = self._thread.submit(self._write, Snapshot(standing.chunks, asdict(standing), states))

    def close(self) -> None:
        """Finish what was begun, and end the thread; an error is only said, since another one may be on its way."""
        self._thread.shutdown()
        error = None if self._pending is None else self._pending.exception()
        if isinstance(error, UserError) and not isinstance(error, LostRankError):  # which the run ends with anyway
            self._runtime.console.say(f"the newest checkpoint was not written: {error}")

    def _write(self, snapshot: Snapshot) -> None:
        """In the thread: what ranks say to each other here goes its own way."""
        runtime, number = self._runtime, snapshot.number
        with runtime.together():
            if runtime.is_main:
                self._checkpoints.begin(number)
        digests: dict[str, str] = {}
        with runtime.together():
            for state in snapshot.states:
                state.stream.sync()
                digests |= self._checkpoints.save(number, state.stream.index, state.sums | state.cache.wait())
        gathered = runtime.gather({"streams": [state.described for state in snapshot.states], "files": digests})
        with runtime.together():
            if runtime.is_main:
                self._trial.sync_samples()
                described = [stream for rank in gathered for stream in rank["streams"]]
                files = {name: digest for rank in gathered for name, digest in rank["files"].items()}
                state = snapshot.standing | {"streams": described, TRIAL: self._trial.seals.key}
                self._checkpoints.commit(number, state, files)
