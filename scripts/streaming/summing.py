"""From the streams of all ranks to the sums of a trial and a summary of each stream."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from scripts.streaming.streams import Stream
from utils.trials.nll_of_stream import merge

Json = dict[str, Any]


def sums_of(streams: Sequence[Stream], cache_bytes: int) -> list[Json]:
    """The sums and the summary of each stream; cache_bytes: the size of one stream's cache."""
    return [
        {
            "sums": {name: array.tolist() for name, array in stream.statistics.arrays().items()},
            "summary": stream.summary(cache_bytes),
        }
        for stream in streams
    ]


def bring_together(gathered: Sequence[list[Json]], length: int) -> tuple[dict[str, np.ndarray], list[Json]]:
    """The arrays of stats.npz, and the summaries in the order of the streams. gathered: `sums_of` of every rank."""
    streams = [stream for rank in gathered for stream in rank]
    streams.sort(key=lambda stream: stream["summary"]["stream"])
    sums = [{name: np.array(values) for name, values in stream["sums"].items()} for stream in streams]
    return merge(sums, length), [stream["summary"] for stream in streams]
