"""From the streams of all ranks to the sums of a trial and a summary of each stream."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from scripts.harness.skipping import SKIPPED, joined_skips
from scripts.streaming.streams import Stream
from utils.trials.nll_of_stream import merge

Json = dict[str, Any]


def sums_of(streams: Sequence[Stream], cache_bytes: int) -> list[Json]:
    """The sums, the summary and the skips of each stream; cache_bytes: the size of one stream's cache."""
    return [
        {
            "sums": {name: array.tolist() for name, array in stream.statistics.arrays().items()},
            "summary": stream.summary(cache_bytes),
            SKIPPED: stream.skips.found,
        }
        for stream in streams
    ]


def bring_together(gathered: Sequence[list[Json]], length: int) -> tuple[dict[str, np.ndarray], list[Json], Json]:
    """The arrays of stats.npz, the summaries in the order of the streams, and the share that skips have in the results.

    gathered: `sums_of` of every rank.
    """
    streams = [stream for rank in gathered for stream in rank]
    streams.sort(key=lambda stream: stream["summary"]["stream"])
    sums = [{name: np.array(values) for name, values in stream["sums"].items()} for stream in streams]
    skips = {skip["index"]: skip for stream in streams for skip in stream[SKIPPED]}
    skipped = joined_skips([{SKIPPED: [skips[index] for index in sorted(skips)]}])
    return merge(sums, length), [stream["summary"] for stream in streams], skipped
