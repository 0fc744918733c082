"""Ranks in processes of their own that stay, so that many small cases can run over 1 to 4 of them."""

import multiprocessing
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

MOST_RANKS = 4
ANSWER_WITHIN = 120  # seconds


def _serve(rank: int, most: int, store: str, pipe) -> None:
    """Answer tasks (ranks, function, arguments) with what `function(group, *arguments)` returns, or its error.

    most: of how many ranks this is one.
    """
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=most)
    groups = {ranks: dist.new_group(list(range(ranks))) for ranks in range(1, most + 1)}
    while (task := pipe.recv()) is not None:
        ranks, function, arguments = task
        try:
            pipe.send((function(groups[ranks], *arguments), None))
        except Exception as error:
            pipe.send((None, f"{type(error).__name__}: {error}\n{traceback.format_exc()}"))
    dist.destroy_process_group()


class RankPool:
    """`run(ranks, function, *arguments)`: what each rank's `function(group, *arguments)` returns, in their order."""

    def __init__(self, pipes: list) -> None:
        self.pipes = pipes

    def run(self, ranks: int, function: Callable, *arguments: Any) -> list[Any]:
        """Raises RuntimeError where a rank does. function: of a module, so that a process can find it."""
        answers = self.try_run(ranks, function, *arguments)
        failed = [f"rank {rank}: {error}" for rank, (_, error) in enumerate(answers) if error]
        if failed:
            raise RuntimeError("\n".join(failed))
        return [result for result, _ in answers]

    def try_run(self, ranks: int, function: Callable, *arguments: Any) -> list[tuple[Any, str | None]]:
        """Each rank's result, or its error as text."""
        for pipe in self.pipes[:ranks]:
            pipe.send((ranks, function, arguments))
        answers = []
        for rank, pipe in enumerate(self.pipes[:ranks]):
            if not pipe.poll(ANSWER_WITHIN):
                raise RuntimeError(f"rank {rank} has not answered within {ANSWER_WITHIN} s")
            answers.append(pipe.recv())
        return answers


@contextmanager
def rank_pool(folder: Path, preloaded: str, most: int = MOST_RANKS):
    """Start that many processes, which import the module `preloaded` once. folder: an empty one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preloaded])
    ends = [context.Pipe() for _ in range(most)]
    processes = [
        context.Process(target=_serve, args=(rank, most, str(folder / "store"), end), daemon=True)
        for rank, (_, end) in enumerate(ends)
    ]
    for process in processes:
        process.start()
    yield RankPool([pipe for pipe, _ in ends])
    for pipe, _ in ends:
        pipe.send(None)
    for process in processes:
        process.join(10)
        process.kill()
