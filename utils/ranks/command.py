"""The command that started a rank, as it was typed."""

import os
import sys
from pathlib import Path

PROCESSES = Path("/proc")
DEEPSPEED, RANK_FLAG = "deepspeed", "--local_rank"
MOST_LAUNCHERS = 4
"""How far above a rank its launcher is at most: DeepSpeed has one process in between."""


def typed_command() -> list[str]:
    """The command that started this process, or that of DeepSpeed's launcher which did, where the system tells it."""
    process, launched = os.getpid(), any(word.startswith(RANK_FLAG) for word in sys.argv)
    for _ in range(MOST_LAUNCHERS if launched else 0):
        try:
            process = _parent(process)
            words = (PROCESSES / str(process) / "cmdline").read_text(encoding="utf-8").split("\0")[:-1]
        except (OSError, ValueError, IndexError):
            break
        if len(words) > 1 and Path(words[1]).name == DEEPSPEED:
            return [DEEPSPEED, *words[2:]]
    return [sys.executable, *sys.argv]


def _parent(process: int) -> int:
    """The process that started this one, by Linux's record of it: its number, its name in brackets, its state, ..."""
    record = (PROCESSES / str(process) / "stat").read_text(encoding="utf-8")
    return int(record.rpartition(")")[2].split()[1])
