"""The table and the lines of totals that end a stream."""

import pytest

from scripts.streaming.report import describe

BUCKET = {"start": 0, "end": 5000, "tokens": 4999, "nll": 2.5, "perplexity": 12.18, "spread": None}
STREAM = {"stream": 0, "documents": 7, "passes": 0.5, "cache_bytes": 2**20}


def make(streams=1, **changed):
    return {
        "nll": 2.5,
        "nll_spread": 0.0625 if streams > 1 else None,
        "perplexity": 12.18,
        "tokens": 4999 * streams,
        "streams": [STREAM | {"stream": index, "passes": 0.5 + index} for index in range(streams)],
        "seconds": 10.0,
        "tokens_per_second": 499.9,
        "peak_memory_bytes": 2**30,
        "device": "cpu",
        "buckets": [BUCKET | {"spread": 0.125 if streams > 1 else None}],
    } | changed


def test_one_stream():
    header, row, totals, costs = describe(make()).splitlines()
    assert header.split() == ["positions", "tokens", "nll", "perplexity"]
    assert row.split() == ["0", "-", "4,999", "4,999", "2.5000", "12.1800"]
    assert "nll 2.5000 nats/token | perplexity 12.1800 | 4,999 tokens of 7 documents (0.50 passes" in totals
    assert "cache 1.0 MiB per stream | peak memory 1.00 GiB per rank | cpu" in costs


def test_several_streams_have_their_spread():
    header, row, totals, _ = describe(make(streams=2)).splitlines()
    assert header.split()[-1] == "spread" and row.split()[-1] == "0.1250"
    assert "nll 2.5000 nats/token ± 0.0625 over 2 streams" in totals
    assert "9,998 tokens of 14 documents (1.50 passes" in totals


@pytest.mark.parametrize("streams", [1, 2])
def test_columns_stand_under_each_other_up_to_a_billion(streams):
    bucket = BUCKET | {"start": 9 * 10**8, "end": 10**9, "tokens": 10**8, "spread": None}
    empty = BUCKET | {"nll": None, "perplexity": None, "tokens": 0}
    header, *rows = describe(make(streams, buckets=[bucket, empty])).splitlines()[:3]
    assert {len(row) for row in rows} == {len(header)}
