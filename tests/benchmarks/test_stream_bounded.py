"""What the benchmark of a bounded stream makes of its samples."""

import pytest

from benchmarks.stream_bounded import MIB, memory_growth, time_growth


def chunks(memory, seconds):
    """100 samples whose memory in MiB and seconds are functions of the chunk's number."""
    return [{"memory_bytes": memory(i) * MIB, "seconds": seconds(i), "tokens": 1000} for i in range(100)]


def test_memory_is_compared_from_the_first_chunk_after_the_warm_up_to_the_last():
    growth = memory_growth(chunks(lambda i: 1 if i < 10 else 200 + 50 * (i == 17) + 2 * (i == 99), lambda i: 1))
    assert growth["first_chunk_mib"] == 1
    assert growth["first_mib"] == growth["least_mib"] == 200 and growth["last_mib"] == 202
    assert growth["growth_mib"] == 2 and growth["last_over_first"] == 1.01 and growth["most_over_first"] == 1.25


def test_time_is_the_median_of_the_last_tenth_over_that_of_the_first():
    times = time_growth(chunks(lambda i: 1, lambda i: 9 if i in (0, 1, 95) else 1.0 + 0.1 * (i >= 90)))
    assert times["first_tenth_us"] == 1000 and times["last_tenth_us"] == pytest.approx(1100)
    assert times["last_over_first"] == pytest.approx(1.1)
