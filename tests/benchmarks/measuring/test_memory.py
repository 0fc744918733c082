"""The peak of a stretch of work, on the CPU."""

import torch

from benchmarks.measuring.memory import MIB, PeakMemory


def allocate(mib):
    torch.ones(mib * MIB, dtype=torch.uint8)


def test_the_peak_is_that_since_the_start_even_if_it_is_over():
    memory = PeakMemory("cpu")
    before = memory.start()
    allocate(300)
    assert 290 * MIB < memory.peak() - before < 340 * MIB
    before = memory.start()
    allocate(100)
    assert 90 * MIB < memory.peak() - before < 140 * MIB
