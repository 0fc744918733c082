"""Checkpoints of two ranks: one that counts has the files of both, and an error of one is that of both, in step."""

import multiprocessing
import os
import time
from types import SimpleNamespace

import torch

from models.scoring.host_copy import HostCopies
from scripts.streaming.checkpoints import StreamCheckpoints
from scripts.streaming.saving import Saving
from scripts.streaming.streams import Standing
from tests.scripts.running import free_port
from utils.console import Console
from utils.errors import SharedError, UserError
from utils.ranks.runtime import joined_ranks
from utils.trials.seals import Seals

STEPS = 2000


class LateCheckpoints(StreamCheckpoints):
    """Of a rank that takes its time, and may fail."""

    def save(self, number, stream, tensors):
        time.sleep(0.5)
        if self.log_dir.name == "failing":
            raise UserError("no room on rank 1")
        return super().save(number, stream, tensors)


def stream(index):
    sums = {"sum": torch.tensor([float(index)])}
    return SimpleNamespace(index=index, describe=lambda: {"stream": index}, sync=lambda: None, tensors=lambda: sums)


def rank_that_saves(rank, folder, port, said):
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    scorer = SimpleNamespace(state=lambda row: HostCopies({"last_hidden": torch.full((1, 2), float(rank))}))
    trial = SimpleNamespace(sync_samples=lambda: None, seals=Seals()) if rank == 0 else None
    with joined_ranks(seed=0) as runtime:
        checkpoints = (StreamCheckpoints, LateCheckpoints)[rank](folder)
        saving, step = Saving(checkpoints, trial, runtime), 0
        saving.begin([stream(rank)], scorer, Standing(7, 70))
        try:
            for step in range(STEPS):  # what ranks say meanwhile is not mixed up with what their threads say
                with runtime.together():
                    saving.check()
                gathered = runtime.gather([rank, step, saving.is_writing])
                if runtime.is_main:
                    assert [entry[:2] for entry in gathered] == [[0, step], [1, step]]
                if not runtime.broadcast(any(entry[2] for entry in gathered)):
                    break
            with runtime.together():
                saving.wait()
            said.put((rank, step > 3, "written"))
        except SharedError as error:
            said.put((rank, step, str(error)))
        saving.close()


def run_ranks(folder):
    folder.mkdir()
    start, port = multiprocessing.get_context("spawn"), free_port()
    said = start.SimpleQueue()
    ranks = [start.Process(target=rank_that_saves, args=(rank, folder, port, said), daemon=True) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
    assert [process.exitcode for process in ranks] == [0, 0]
    return sorted(said.get() for _ in ranks)


def test_it_counts_once_the_slowest_rank_has_written(tmp_path):
    assert run_ranks(tmp_path / "log") == [(0, True, "written"), (1, True, "written")]
    found = StreamCheckpoints(tmp_path / "log").newest(Console())
    assert found.state["position"] == 70 and found.state["streams"] == [{"stream": 0}, {"stream": 1}]
    for rank in range(2):
        assert found.tensors(rank)["last_hidden"].tolist() == [[rank, rank]]


def test_a_failure_of_one_ends_both_at_the_same_step_and_nothing_counts(tmp_path):
    (first, step, sentence), (second, other_step, other_sentence) = run_ranks(tmp_path / "failing")
    assert (first, second) == (0, 1) and sentence == other_sentence == "no room on rank 1" and step == other_step > 3
    assert StreamCheckpoints(tmp_path / "failing").newest(Console()) is None
