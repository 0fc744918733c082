"""What ranks tell each other at the end of a block."""

import multiprocessing
import os
import socket

import pytest
import torch

from utils.console import Console
from utils.errors import SharedError, UserError
from utils.ranks.runtime import Runtime, joined_ranks

ALONE = Runtime(rank=0, world_size=1, device=torch.device("cpu"), console=Console(), messages=None)


def test_a_block_that_nothing_goes_wrong_in_changes_nothing():
    with ALONE.together():
        value = 3
    assert value == 3


def test_an_error_of_the_users_is_shared_and_any_other_left_as_it_is():
    with pytest.raises(SharedError, match="^a sentence$"), ALONE.together():
        raise UserError("a sentence")
    with pytest.raises(KeyError), ALONE.together():
        raise KeyError("no sentence")


def rank_that_fails(rank, failing, port, said):
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    reached = 0
    with joined_ranks(seed=0) as runtime:
        try:
            for reached in range(3):
                with runtime.together():
                    if reached == 1 and rank in failing:
                        raise UserError(f"rank {rank} fails")
        except SharedError as error:
            said.put((rank, reached, str(error)))


@pytest.mark.parametrize("failing, sentence", [((1,), "rank 1 fails"), ((0, 1), "rank 0 fails")])
def test_what_one_rank_fails_at_ends_the_block_on_all(failing, sentence):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = multiprocessing.get_context("spawn")
    said = start.SimpleQueue()
    ranks = [start.Process(target=rank_that_fails, args=(rank, failing, port, said), daemon=True) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
    assert [process.exitcode for process in ranks] == [0, 0]
    assert sorted(said.get() for _ in ranks) == [(0, 1, sentence), (1, 1, sentence)]
