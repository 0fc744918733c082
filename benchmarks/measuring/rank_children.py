"""Ranks of a benchmark in processes of their own, one thread each on the CPU, one GPU each on CUDA."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.measuring.children import Case

TIMEOUT = 1800  # seconds


def run_ranks(script: str, case: Case, ranks: int) -> Any:
    """What rank 0 gives to `answer_from_ranks`, with so many ranks of that script. Raises where one of them fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "answer.json"
        environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
        environment |= {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, script, "--case", json.dumps({**case, "out": str(out)})]
        children = [
            subprocess.Popen(command, env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank in range(ranks)
        ]
        try:
            for child in children:
                if child.wait(TIMEOUT):
                    raise subprocess.CalledProcessError(child.returncode, command)
        finally:
            for child in children:
                child.kill()
        return json.loads(out.read_text())


def join_ranks(device: str) -> dist.ProcessGroup:
    """The child's side: the group of all ranks."""
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    return dist.group.WORLD


def answer_from_ranks(case: Case, found: Any) -> None:
    """The child's side: hand over what rank 0 has found."""
    if dist.get_rank() == 0:
        Path(case["out"]).write_text(json.dumps(found))
    dist.destroy_process_group()
