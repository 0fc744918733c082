"""scripts/diagnose.py as a user calls it: numbers, ranks, resume, refusals."""

import json
import os
import random
import signal
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from scripts import diagnose
from scripts.harness.journal import Journal
from tests.scripts.running import ROOT, results, run_script, start_script
from tests.tiny_models import tiny_model, tiny_tokenizer
from utils.errors import UserError

SCRIPT = "diagnose"
LENGTHS = (90, 20, 150, 60)  # words: unequal, one of them truncated
LENGTH = 120
LAMBDA = ("--use_lambda_attention", "--local_branch", 24, "--global_branch", 4)
VOLATILE = ("sha256", "computed_from", "seconds", "tokens_per_second", "peak_memory_bytes")
CONFIGS = ROOT / "configs"


def write_texts(folder, lengths):
    folder.mkdir()
    words = random.Random(0)
    for place, length in enumerate(lengths):
        text = " ".join(words.choice(["the", "and", "a", "wörd", "that"]) for _ in range(length))
        (folder / f"{place:03d}.txt").write_text(text)
    return folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("corpus") / "texts", LENGTHS)


@pytest.fixture
def flags(tiny_llama_dir, texts):
    small = ("--num_queries", 16, "--num_bins", 12, "--num_positions", 8, "--num_hidden", 20)
    return ("--model", tiny_llama_dir, "--dataset", texts, "--max_length", LENGTH, *small)


def run_here(*flags):
    """The script in this process: fast, and its UserError can be seen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"scripts/{SCRIPT}.py", *map(str, flags)])
        diagnose.main()


@contextmanager
def stopped_after(commits):
    """The run is interrupted right after that many steps are committed."""
    commit, left = Journal.commit, [commits]

    def counting_commit(*args):
        commit(*args)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Journal, "commit", counting_commit)
        yield


def arrays(log_dir):
    with np.load(log_dir / "stats.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def assert_same_trial(log_dir, other, atol=0.0):
    found, expected = arrays(log_dir), arrays(other)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=atol, err_msg=name)
    if not atol:
        ours, theirs = results(log_dir), results(other)
        assert {name: ours[name] for name in ours if name not in VOLATILE} == {
            name: theirs[name] for name in theirs if name not in VOLATILE
        }


def assert_one_sentence(run, *words):
    assert run.returncode == 2, run.stdout + run.stderr
    assert "Traceback" not in run.stdout + run.stderr
    errors = [line for line in run.stderr.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert all(word in errors[0] for word in words)


def test_entropy_and_mass_are_those_of_the_full_matrices(flags, tiny_llama_dir, texts, tmp_path, capsys):
    run_here(*flags, "--first_tokens", 3, "--window", 30, "--log_dir", tmp_path)
    found = arrays(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tiny_llama_dir, dtype=torch.float32, attn_implementation="eager")
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama_dir)
    entropies, first = [], []
    for path in sorted(texts.iterdir()):
        ids = torch.tensor([tokenizer(path.read_text())["input_ids"][:LENGTH]])
        with torch.no_grad():
            weights = torch.stack(model.eval()(ids, output_attentions=True).attentions)[:, 0].double()
        missing = (0, LENGTH - ids.shape[1])
        entropies.append(np.pad(torch.special.entr(weights).sum(-1), [(0, 0)] * 2 + [missing], constant_values=np.nan))
        first.append(np.pad(weights[..., :3].sum(-1), [(0, 0)] * 2 + [missing], constant_values=np.nan))
    at = found["positions"]
    for name, dense in (("entropy", entropies), ("mass_first", first)):
        np.testing.assert_allclose(found[f"{name}_mean"], np.nanmean(dense, 0)[..., at], rtol=0, atol=1e-5)
    headline = results(tmp_path)
    assert headline["entropy"]["at_end"]["nats"] == pytest.approx(np.nanmean(entropies, 0)[..., -1].mean(), abs=1e-5)
    assert headline["documents"] == len(LENGTHS) and headline["longest"] == LENGTH
    assert headline["entropy"]["at_pretraining_length"]["position"] == 63 and headline["logits"]["beyond"] is not None
    assert "larger beyond in" in capsys.readouterr().out
    assert not list(tmp_path.glob("checkpoint-*"))


def test_lambda_attention_keeps_all_of_its_mass_in_its_branches(flags, tmp_path):
    run_here(*flags, *LAMBDA, "--log_dir", tmp_path)
    found = arrays(tmp_path)
    assert (int(found["first_tokens"]), int(found["window"])) == (4, 24)
    assert found["attended"].max() == 28 and np.nanmax(found["mass_middle_mean"]) < 1e-6
    assert results(tmp_path)["mass"]["at_end"]["middle"] < 1e-6


def test_batches_give_what_single_documents_give(flags, tmp_path):
    run_here(*flags, "--log_dir", tmp_path / "single")
    run_here(*flags, "--log_dir", tmp_path / "batch", "--batch_size", 3)
    assert_same_trial(tmp_path / "batch", tmp_path / "single", atol=1e-4)


def test_going_on_ends_with_the_same_numbers(flags, tmp_path, capsys):
    run_here(*flags, "--layers", 1, "--log_dir", tmp_path / "one")
    with stopped_after(2):
        run_here(*flags, "--layers", 1, "--log_dir", tmp_path / "two")
    lines = (tmp_path / "two" / "samples.jsonl").read_text()
    assert lines.count("\n") == 2 and not (tmp_path / "two" / "stats.npz").exists()
    run_here(*flags, "--layers", 1, "--log_dir", tmp_path / "two")
    assert (tmp_path / "two" / "samples.jsonl").read_text().startswith(lines)
    assert_same_trial(tmp_path / "two", tmp_path / "one")
    run_here(*flags, "--layers", 1, "--log_dir", tmp_path / "two")
    assert "already finished: " in capsys.readouterr().out
    with pytest.raises(UserError, match="--layers was"):
        run_here(*flags, "--log_dir", tmp_path / "two")


def test_killed_and_started_again_ends_as_if_never_stopped(flags, tmp_path):
    run_here(*flags, "--log_dir", tmp_path / "one")
    process = start_script(SCRIPT, *flags, "--log_dir", tmp_path / "killed")
    journal, deadline = tmp_path / "killed" / "samples.jsonl", time.monotonic() + 200
    while not journal.exists() or not journal.read_bytes().count(b"\n"):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    run_here(*flags, "--log_dir", tmp_path / "killed")
    assert_same_trial(tmp_path / "killed", tmp_path / "one", atol=1e-5)


@pytest.mark.parametrize("config", ["replicated_config.json", "zero3_efficient_config.json"])
def test_two_ranks_share_the_documents_out(config, flags, tmp_path):
    run_here(*flags, *LAMBDA, "--start_data_from", 1, "--log_dir", tmp_path / "one")
    run = run_script(
        SCRIPT,
        *flags,
        *LAMBDA,
        "--start_data_from",
        1,
        "--log_dir",
        tmp_path / "two",
        "--deepspeed_config",
        CONFIGS / config,
        ranks=2,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert_same_trial(tmp_path / "two", tmp_path / "one", atol=1e-4)
    lines = [json.loads(line) for line in (tmp_path / "two" / "samples.jsonl").read_text().splitlines()]
    assert [(line["index"], line["rank"]) for line in lines] == [(1, 0), (2, 1), (3, 0)]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (("--layers", 0, 2), "--layers 2: this model has the layers 0 to 1"),
        (("--layers", -1), "must be at least 0"),
        (("--num_bins", 5000), "--num_bins 5000 is more than"),
        (("--num_hidden", 2), "must be at least 4"),
        ((*LAMBDA, "--top_k_attention", 5), "--top_k_attention 5 is not for this script: only the last token"),
        (("--local_branch", 5), "--local_branch needs --use_lambda_attention"),
        (("--model", "constant_model", "--tokenizer_path", "TOKENIZER"), "constant"),
    ],
)
def test_wrong_flags_are_one_sentence(wrong, words, flags, tiny_tokenizer_dir, tmp_path):
    wrong = [tiny_tokenizer_dir if value == "TOKENIZER" else value for value in wrong]
    with pytest.raises(UserError, match=words):
        run_here(*flags, *wrong, "--log_dir", tmp_path / "log")
    assert not (tmp_path / "log" / "config.json").exists()


def test_a_length_is_needed(tiny_llama_dir, tmp_path):
    with pytest.raises(UserError, match="--max_length is needed"):
        run_here("--model", tiny_llama_dir, "--log_dir", tmp_path)


def test_a_document_that_cannot_be_measured_loses_no_other(flags, tmp_path):
    corpus = write_texts(tmp_path / "texts", (30, 0, 30))
    run = run_script(SCRIPT, *flags, "--dataset", corpus, "--log_dir", tmp_path / "log", "--strict_data")
    assert_one_sentence(run, "'001.txt'", "is empty")
    assert [json.loads(line)["index"] for line in (tmp_path / "log" / "samples.jsonl").open()] == [0]


def test_attention_that_is_no_number_is_named(flags, tmp_path):
    model = tiny_model("llama")
    with torch.no_grad():
        model.model.layers[1].self_attn.k_proj.weight.fill_(torch.inf)
    model.save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match=r"'000.txt' is no number in some layer"):
        run_here(*flags, "--model", tmp_path / "model", "--log_dir", tmp_path / "log")
    assert not list((tmp_path / "log").glob("checkpoint-*"))
