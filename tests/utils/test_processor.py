"""What a process keeps of freed memory, seen from outside: in a process of its own."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from utils.processor import prepare_processor
if sys.argv[1] == "prepared":
    prepare_processor()
import torch
def faults_of_tensors():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(12_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults_of_tensors()
print(faults_of_tensors())
"""


def faults(state: str, **environment: str) -> int:
    command = [sys.executable, "-c", FAULTS, state]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
def test_large_tensors_are_made_of_memory_that_was_freed():
    plain = faults("plain")
    assert faults("prepared") < plain / 10
    assert faults("prepared", MALLOC_MMAP_MAX_="65536", MALLOC_TRIM_THRESHOLD_="131072") > plain / 2
