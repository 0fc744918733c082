"""Which rank a process is, by what torchrun, deepspeed and SLURM leave in its environment."""

import os
import re

import pytest

from utils.errors import UserError
from utils.ranks.launch import FIRST_PORT, PORTS, Place, announced_rank, expand_nodes, read_place, take_place

TORCH = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "29500"}
JOB = {"SLURM_JOB_ID": "4200123", "SLURM_JOB_NODELIST": "gpu[07-09]", "SLURM_NTASKS": "6", "SLURM_NNODES": "3"}
BATCH = JOB | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_GTIDS": "0"}
"""As sbatch leaves it: the numbers of a first task, and no step."""
STEP = JOB | {
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NODELIST": "gpu[08-09]",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
}
"""As srun --nodes 2 --ntasks 4 leaves it in the last task."""


def without(environment, *names):
    return {name: value for name, value in environment.items() if name not in names}


@pytest.mark.parametrize(
    "text, names",
    [
        ("node7", ["node7"]),
        ("node[01-03,07],gpu5", ["node01", "node02", "node03", "node07", "gpu5"]),
        ("a[9-11]", ["a9", "a10", "a11"]),
        ("a[098-100],b", ["a098", "a099", "a100", "b"]),
        ("rack[1-2]n[0,3]-ib", ["rack1n0-ib", "rack1n3-ib", "rack2n0-ib", "rack2n3-ib"]),
        ("login-1.site.org", ["login-1.site.org"]),
    ],
)
def test_lists_of_nodes(text, names):
    assert expand_nodes(text) == names


@pytest.mark.parametrize("text", ["", "node[", "node[a-b]", "node[1-2]]", "a,,b", "node[]", "a,"])
def test_what_is_no_list_of_nodes(text):
    with pytest.raises(ValueError):
        expand_nodes(text)


def test_without_a_launcher_a_process_is_alone():
    assert read_place({}) == Place() == Place(0, 1, 0)
    assert read_place({"WORLD_SIZE": "1", "RANK": "0"}) == Place()


def test_torchs_variables_count_before_slurms():
    assert read_place(STEP | TORCH) == Place(5, 8, 1, "a", 29500)
    assert read_place(BATCH | TORCH) == Place(5, 8, 1, "a", 29500)
    assert read_place(STEP | without(TORCH, "LOCAL_RANK")) == Place(5, 8, 1, "a", 29500)
    assert read_place(STEP | {"RANK": "0", "WORLD_SIZE": "1"}) == Place(local_rank=1)


def test_a_task_of_srun_is_a_rank():
    port = FIRST_PORT + (4200123 + 997 * 2) % PORTS
    assert read_place(STEP) == Place(3, 4, 1, "gpu08", port)
    assert read_place(without(STEP, "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NODELIST")) == Place(3, 4, 1, "gpu07", port)
    assert read_place(STEP | {"MASTER_ADDR": "b", "MASTER_PORT": "7"}) == Place(3, 4, 1, "b", 7)
    assert read_place(STEP | {"RANK": ""}).rank == 3


def test_ports_of_slurm_are_none_that_systems_hand_out():
    ports = {read_place(STEP | {"SLURM_JOB_ID": str(job)}).port for job in range(0, 10**7, 9973)}
    assert len(ports) > 900 and min(ports) >= 12000 and max(ports) < 32000


@pytest.mark.parametrize(
    "environment",
    [
        BATCH,  # sbatch without srun: nobody has started the other tasks
        BATCH | {"SLURM_STEP_ID": "4294967291"},  # SLURM's number of a batch script
        STEP | {"SLURM_STEP_ID": "4294967290", "SLURM_PROCID": "0"},  # the shell that salloc opens
        STEP | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},  # srun --ntasks 1 in a larger job
        without(JOB, "SLURM_NTASKS") | {"SLURM_STEP_ID": "0", "SLURM_PROCID": "0"},
        JOB,  # salloc: on the login node
    ],
)
def test_a_process_of_slurm_that_is_alone(environment):
    assert read_place(environment) == Place()


@pytest.mark.parametrize(
    "environment, words",
    [
        (without(STEP, "SLURM_PROCID"), "SLURM has started 4 tasks, .*: SLURM_PROCID is not set"),
        (without(STEP, "SLURM_LOCALID", "SLURM_PROCID"), "SLURM_PROCID and SLURM_LOCALID are not set"),
        (without(STEP, "SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"), "SLURM_JOB_NODELIST is not set"),
        (without(STEP, "SLURM_JOB_ID"), "SLURM_JOB_ID is not set"),
        (STEP | {"SLURM_STEP_NODELIST": "gpu[8"}, r"SLURM_STEP_NODELIST is 'gpu\[8', no list of nodes"),
        (STEP | {"SLURM_PROCID": "x"}, "SLURM_PROCID must be a whole number, not 'x'"),
        ({"RANK": "1"}, "WORLD_SIZE is not set"),
        ({"WORLD_SIZE": "2"}, "RANK is not set"),
        (without(TORCH, "MASTER_ADDR", "MASTER_PORT"), "MASTER_ADDR and MASTER_PORT are not set"),
        (TORCH | {"RANK": "8"}, "RANK 8 is not below WORLD_SIZE 8"),
        (TORCH | {"RANK": "-1"}, "RANK must be a whole number, not '-1'"),
        (TORCH | {"MASTER_PORT": "http"}, "MASTER_PORT must be a whole number"),
    ],
)
def test_variables_that_are_not_whole_are_refused(environment, words):
    with pytest.raises(UserError, match=words) as refusal:
        read_place(environment)
    assert re.fullmatch(r"[^\n]+", str(refusal.value))


@pytest.fixture
def environment(monkeypatch):
    """Nothing of a launcher, and put back after the test."""
    for name in [*TORCH, *STEP]:
        monkeypatch.setenv(name, "")
    return os.environ


def test_slurms_variables_are_written_down_as_torchs(environment):
    environment |= STEP
    place = take_place()
    expected = {
        "RANK": "3",
        "WORLD_SIZE": "4",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "gpu08",
        "MASTER_PORT": str(place.port),
    }
    assert {name: environment[name] for name in expected} == expected
    assert read_place() == place


def test_a_rank_is_known_before_ranks_join(environment):
    assert announced_rank() == 0
    environment |= STEP
    assert announced_rank() == 3
    environment["SLURM_PROCID"] = "x"
    assert announced_rank() == 0
