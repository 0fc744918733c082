"""Checkpoints over ranks: each saves its own streams, the first one says when the whole counts."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from models.scoring.stream_scorer import StreamScorer
from scripts.streaming.checkpoints import Checkpoint, StreamCheckpoints
from scripts.streaming.streams import Standing, Stream
from utils.ranks.runtime import Runtime


def find_newest(checkpoints: StreamCheckpoints, runtime: Runtime) -> Checkpoint | None:
    """The newest whole checkpoint, on every rank; None where there is none yet. Raises UserError."""
    found = None
    with runtime.together():
        if runtime.is_main:
            found = checkpoints.newest(runtime.console)
    where = runtime.broadcast([str(found.folder), found.state] if found else None)
    return Checkpoint(Path(where[0]), where[1]) if where else None


def save(
    checkpoints: StreamCheckpoints,
    streams: Sequence[Stream],
    scorer: StreamScorer,
    standing: Standing,
    runtime: Runtime,
) -> None:
    """Write a checkpoint; the time counts as the trial's.

    streams: those that this rank keeps, which are the first rows of its scorer.
    """
    started, number = time.monotonic(), standing.chunks
    with runtime.together():
        if runtime.is_main:
            checkpoints.begin(number)
    digests: dict[str, str] = {}
    with runtime.together():
        for row, stream in enumerate(streams):
            stream.sync()
            digests |= checkpoints.save(number, stream.index, stream.tensors() | scorer.state(row))
    gathered = runtime.gather({"streams": [stream.describe() for stream in streams], "files": digests})
    standing.seconds += time.monotonic() - started
    with runtime.together():
        if runtime.is_main:
            described = [stream for rank in gathered for stream in rank["streams"]]
            files = {name: digest for rank in gathered for name, digest in rank["files"].items()}
            checkpoints.commit(number, asdict(standing) | {"streams": described}, files)
