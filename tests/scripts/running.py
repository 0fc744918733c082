"""Calling a script as a user does, and comparing the trials that it leaves."""

import importlib
import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
VOLATILE = ("seconds", "rank", "step_seconds", "memory_bytes", "checksum", "nll_start", "nll_sha256")
"""Fields of a line of samples.jsonl that differ from run to run."""


def environment():
    """The user's environment with this Python's programs first, few threads and no network."""
    rank_variables = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if name not in rank_variables}
    return kept | {"PATH": f"{BIN}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def command(script, *flags, ranks=None):
    """`python SCRIPT`, or `deepspeed --num_gpus RANKS SCRIPT`."""
    launcher = ["python"] if ranks is None else ["deepspeed", "--num_gpus", str(ranks), "--master_port", free_port()]
    return [*launcher, f"scripts/{script}.py", *map(str, flags)]


def run_script(script, *flags, ranks=None, prefix=(), timeout=240):
    """Run it to its end, behind another program if `prefix` names one; returncode, stdout and stderr."""
    line = [*prefix, *command(script, *flags, ranks=ranks)]
    return subprocess.run(line, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=timeout)


def run_command(module, *flags):
    """The main of "scripts.X" or "visualization.X" in this process: fast, and its UserError can be seen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{module.replace('.', '/')}.py", *map(str, flags)])
        importlib.import_module(module).main()


def start_script(script, *flags, ranks=None, output=subprocess.DEVNULL):
    """Start it and return the process; what it prints goes to `output`."""
    line = command(script, *flags, ranks=ranks)
    return subprocess.Popen(line, cwd=ROOT, env=environment(), stdout=output, stderr=output)


def rank_processes(words):
    """The ids of the second ranks that were started with `words` among their flags."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            line = path.read_bytes().decode(errors="replace")
            if "\0--local_rank=1\0" in line and words in line:
                found.append(int(path.parent.name))
    return found


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def arrays(log_dir):
    """The arrays per position of nll.npz."""
    with np.load(log_dir / "nll.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files if name != "state"}


def samples(log_dir):
    """The lines of samples.jsonl without what differs from run to run."""
    lines = [json.loads(line) for line in (log_dir / "samples.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in VOLATILE} for line in lines]


def covered_documents(log_dir):
    """The documents that nll.npz says its sums cover."""
    with np.load(log_dir / "nll.npz", allow_pickle=False) as file:
        return json.loads(str(file["state"]))["documents"]


def results(log_dir):
    return json.loads((log_dir / "results.json").read_text())


def flip_a_bit(log_dir, name):
    """Damage the middle of a file in a log dir; returns the log dir."""
    content = bytearray((log_dir / name).read_bytes())
    content[len(content) // 2] ^= 1
    (log_dir / name).write_bytes(content)
    return log_dir
