"""python, deepspeed, torchrun and srun as the pages call them, in one process with the heavy libraries imported.

    python tests/docs/programs.py SOCKET

Every call that `call.py` hands over is run in a fork of this process: a script's own `__main__`, with the caller's
arguments (cut down as stand_ins.py says), folder, environment and streams. So a command costs what it does, not the
12 seconds in which torch, Transformers and DeepSpeed are imported. Launchers' flags are read by the launchers' own
parsers; two ranks at most are started.
"""

import argparse
import contextlib
import itertools
import json
import os
import runpy
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import deepspeed
import matplotlib.figure
import sacrebleu
import sklearn.decomposition
import torch.distributed.run
import transformers
from deepspeed.launcher.runner import parse_args as parse_deepspeed
from rouge_score import rouge_scorer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

sys.path[0] = str(Path(__file__).parents[2])
from tests.docs.stand_ins import NOT_RUN, PARSED_ONLY, shortened

del sys.path[0]  # every call has a repository of its own
PRELOADED = (
    datasets,
    deepspeed,
    matplotlib.figure,
    sacrebleu,
    sklearn.decomposition,
    transformers,
    rouge_scorer,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
MOST_RANKS = 2
Variables = Callable[[int, int, str], dict[str, Any]]
"""By rank, number of ranks and a free port, the variables that a launcher sets."""
MESSAGE_BYTES = 200_000
PACKAGES = ".venv/lib/python3.11/site-packages"


def serve(path: str) -> None:
    """Run what is asked for until this process is ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # handlers are not waited for
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(path)
        listening.listen(16)
        while True:
            connection, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                handle(connection)
            connection.close()


def handle(connection: socket.socket) -> None:
    """Run one call, tell its exit status, and end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, streams, _, _ = socket.recv_fds(connection, MESSAGE_BYTES, 3)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
    call = json.loads(message)
    os.chdir(call["folder"])
    os.environ.clear()
    os.environ.update(call["environment"])
    try:
        status = run_ranks(*read_launcher(call["program"], call["arguments"]))
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        traceback.print_exc()
        status = 1
    with contextlib.suppress(OSError):
        connection.send(str(status).encode())
    os._exit(0)


def read_launcher(program: str, words: list[str]) -> tuple[int, list[str], Variables]:
    """How many ranks a launcher is to start (python: 0), the script with its arguments, and what ranks are told."""
    if program == "deepspeed":
        found = parse_deepspeed(words)
        assert found.hostfile == "/job/hostfile" or Path(found.hostfile).exists(), f"no {found.hostfile}"
        return min(MOST_RANKS, max(1, found.num_gpus)), [found.user_script, *found.user_args], of_torch
    if program == "torchrun":
        found = torch.distributed.run.get_args_parser().parse_args(words)
        return (
            min(MOST_RANKS, int(found.nproc_per_node)),
            [found.training_script, *found.training_script_args],
            of_torch,
        )
    if program == "srun":
        task = list(itertools.dropwhile(is_flag, words))
        return (MOST_RANKS, task[1:], of_slurm) if task[0] == "python" else read_launcher(task[0], task[1:])
    return 0, words, of_torch


def is_flag(word: str) -> bool:
    """Whether it is a flag of srun, which the pages write as --name=value."""
    assert not word.startswith("-") or "=" in word, word
    return word.startswith("--")


def of_torch(rank: int, ranks: int, port: str) -> dict[str, Any]:
    """What torchrun and deepspeed tell a rank."""
    world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    return world | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}


def of_slurm(rank: int, ranks: int, port: str) -> dict[str, Any]:
    """What srun tells a task."""
    step = {"SLURM_STEP_ID": 0, "SLURM_STEP_NUM_TASKS": ranks, "SLURM_STEP_NODELIST": "localhost"}
    return step | {"SLURM_JOB_ID": port, "SLURM_PROCID": rank, "SLURM_LOCALID": rank}


def run_ranks(ranks: int, words: list[str], told: Variables) -> int:
    """The exit status of the first process that fails, or 0; the others are then ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    children = []
    for rank in range(max(1, ranks)):
        child = os.fork()
        if child == 0:
            if ranks:
                os.environ |= {name: str(value) for name, value in told(rank, ranks, port).items()}
            os._exit(run_python(words))
        children.append(child)
    while children:
        child, status = os.wait()
        children.remove(child)
        if status:
            for other in children:
                os.kill(other, signal.SIGKILL)
            return os.waitstatus_to_exitcode(status) & 255
    return 0


def run_python(words: list[str]) -> int:
    """Do what `python WORD...` does, for the forms that pages use; returns its exit status."""
    try:
        if words[:2] == ["-m", "venv"]:
            shutil.copytree(os.environ["DOCS_VENV"], words[2], symlinks=True, dirs_exist_ok=True)
            return 0
        if words[0] == "-c":
            exec(words[1], {"__name__": "__main__"})
            return 0
        if words[0] == "-m":
            print(f"not run: {' '.join(words)} ({NOT_RUN[words[1]]})", file=sys.stderr)
            return 0
        sys.path[:0] = [str(Path(words[0]).parent.resolve()), str(Path(PACKAGES).resolve())]
        sys.executable = shutil.which("python")
        script = Path(words[0]).resolve().relative_to(Path(os.environ["DOCS_ROOT"])).as_posix()
        if script in PARSED_ONLY:
            end_after_parsing()
        sys.argv = [words[0], *shortened(Path(script).stem, words[1:])]
        runpy.run_path(words[0], run_name="__main__")
        return 0
    except SystemExit as leaving:
        if leaving.code is not None and not isinstance(leaving.code, int):
            print(leaving.code, file=sys.stderr)
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def end_after_parsing() -> None:
    """From now on a command line that is right ends the process well."""
    parse = argparse.ArgumentParser.parse_args

    def parse_and_end(parser, args=None, namespace=None):
        parse(parser, args, namespace)
        raise SystemExit(0)

    argparse.ArgumentParser.parse_args = parse_and_end


if __name__ == "__main__":
    serve(sys.argv[1])
