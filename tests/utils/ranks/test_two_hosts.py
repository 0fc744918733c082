"""Two hosts with a network of their own: launchers, a log dir that is not shared, and a host that is gone."""

import sys
import time

import numpy as np
import pytest

from scripts import eval_ppl_deepspeed
from tests.scripts.running import arrays, samples
from tests.utils.ranks.two_hosts import reached_by_ssh, srun, torchrun, two_hosts, why_not

PATH = "scripts/eval_ppl_deepspeed.py"
TIMEOUT = 15
DOCUMENTS = 80
REASON = why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


@pytest.fixture
def hosts(tmp_path):
    with two_hosts(tmp_path) as hosts:
        yield hosts


@pytest.fixture(scope="module")
def flags(tiny_llama_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(5):
        (folder / f"{number}.txt").write_text("the and a that " * (10 + 7 * number))
    return ("--model", tiny_llama_dir, "--dataset", folder, "--rank_timeout", 60)


@pytest.fixture(scope="module")
def whole(flags, tmp_path_factory):
    """The trial of one host."""
    log_dir = tmp_path_factory.mktemp("whole")
    run_alone(*flags, "--log_dir", log_dir)
    return log_dir


def run_alone(*flags):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [PATH, *map(str, flags)])
        eval_ppl_deepspeed.main()


def assert_same_trial(log_dir, whole):
    for one, other in zip(samples(log_dir), samples(whole), strict=True):
        assert one | {"nll": pytest.approx(one["nll"], rel=1e-6)} == other
    for name, array in arrays(whole).items():
        np.testing.assert_allclose(arrays(log_dir)[name], array, rtol=1e-6, atol=1e-6, err_msg=name)


def run_on(hosts, commands, variables=({}, {}), label="out", timeout=120):
    """Run one command on each host; their statuses."""
    started = [
        host.start(*command, label=label, **more)
        for host, command, more in zip(hosts, commands, variables, strict=True)
    ]
    return [process.wait(timeout) for process in started]


def test_torchrun_gives_the_numbers_of_one_host(hosts, flags, whole, tmp_path):
    log_dir = tmp_path / "log"
    script = (PATH, *flags, "--log_dir", log_dir)
    statuses = run_on(hosts, [torchrun(place, hosts, *script) for place in range(2)])
    assert statuses == [0, 0], hosts[0].said("out") + hosts[1].said("out")
    assert_same_trial(log_dir, whole)
    assert '"rank": 1' in (log_dir / "samples.jsonl").read_text()
    assert not list(log_dir.glob("ranks-*"))


def test_two_hosts_read_one_document_together(hosts, flags, tmp_path):
    flags = (*flags, "--use_lambda_attention", "--local_branch", 16, "--global_branch", 4)
    run_alone(*flags, "--log_dir", tmp_path / "one")
    script = (PATH, *flags, "--sequence_parallel", 2, "--log_dir", tmp_path / "two")
    statuses = run_on(hosts, [torchrun(place, hosts, *script) for place in range(2)])
    assert statuses == [0, 0], hosts[0].said("out") + hosts[1].said("out")
    for one, other in zip(samples(tmp_path / "two"), samples(tmp_path / "one"), strict=True):
        assert one | {"nll": pytest.approx(one["nll"], rel=1e-6)} == other


@pytest.mark.skipif(why_not("sshd", "ssh", "pdsh") is not None, reason=str(why_not("sshd", "ssh", "pdsh")))
def test_deepspeed_starts_ranks_by_ssh(hosts, flags, whole, tmp_path):
    log_dir, hostfile = tmp_path / "log", tmp_path / "hosts.txt"
    hostfile.write_text("".join(f"{host.name} slots=1\n" for host in hosts))
    with reached_by_ssh(hosts, tmp_path / "ssh") as variables:
        command = ["deepspeed", "--hostfile", hostfile, PATH, *flags, "--log_dir", log_dir]
        process = hosts[0].start(*command, label="out", **variables)
        assert process.wait(120) == 0, hosts[0].said("out") + hosts[1].said("sshd")
    assert_same_trial(log_dir, whole)
    assert '"rank": 1' in (log_dir / "samples.jsonl").read_text()


def test_srun_starts_ranks_and_a_log_dir_that_is_not_shared_is_said(hosts, flags, whole, tmp_path):
    log_dirs = [tmp_path / "here", tmp_path / "there"]
    commands = [[sys.executable, PATH, *flags, "--log_dir", log_dir] for log_dir in log_dirs]
    assert run_on(hosts, commands, [srun(0), srun(1)]) == [0, 0], hosts[0].said("out") + hosts[1].said("out")
    assert_same_trial(log_dirs[0], whole)
    assert not log_dirs[1].exists()
    said = f"is not shared: the results are on lmi-host-1 ({log_dirs[0]}), not on lmi-host-2 ({log_dirs[1]})"
    assert said in hosts[0].said("out") and said in (log_dirs[0] / "log.txt").read_text()


@pytest.mark.parametrize("gone", [1, 0])
def test_a_host_that_is_gone_ends_the_other_in_time_with_one_sentence(hosts, tiny_llama_dir, tmp_path, gone):
    corpus, log_dir = tmp_path / "corpus", tmp_path / "log"
    corpus.mkdir()
    for number in range(DOCUMENTS):
        (corpus / f"{number:03d}.txt").write_text("the and a that " * 200)
    flags = ("--model", tiny_llama_dir, "--dataset", corpus, "--log_dir", log_dir)
    command = [sys.executable, PATH, *flags, "--rank_timeout", TIMEOUT]
    ranks = [host.start(*command, label="out", **srun(place)) for place, host in enumerate(hosts)]
    wait_for_samples(log_dir, ranks, hosts)
    hosts[gone].die()
    died = time.monotonic()
    assert ranks[1 - gone].wait(3 * TIMEOUT) == 1
    assert TIMEOUT / 2 < time.monotonic() - died < TIMEOUT + 2
    (sentence,) = [line for line in hosts[1 - gone].said("out").splitlines() if "error" in line]
    begins = "error" if gone else "error (rank 1)"
    assert sentence.startswith(f"{begins}: lost rank {gone} on lmi-host-{gone + 1}, not heard of for")
    assert "Traceback" not in hosts[1 - gone].said("out")
    assert 0 < len(samples(log_dir)) < DOCUMENTS
    run_alone(*flags)
    assert [line["index"] for line in samples(log_dir)] == list(range(DOCUMENTS))


def wait_for_samples(log_dir, ranks, hosts):
    end = time.monotonic() + 90
    while not (log_dir / "samples.jsonl").exists() or len(samples(log_dir)) < 4:
        assert time.monotonic() < end and all(rank.poll() is None for rank in ranks), [h.said("out") for h in hosts]
        time.sleep(0.05)
