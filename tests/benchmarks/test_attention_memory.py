"""The memory benchmark, at a length that takes no time."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "attention_memory.py"


def test_one_length_prints_its_working_memory_in_mib():
    command = [sys.executable, SCRIPT, "--length", "3000"]
    working_memory = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert 1 < working_memory < 500
