"""scripts/eval_ppl_deepspeed.py as a user calls it: numbers, ranks, resume, refusals."""

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
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.llama import convert_llama_model
from scripts import eval_ppl_deepspeed
from scripts.perplexity.journal import NllJournal
from tests.scripts.running import (
    ROOT,
    arrays,
    covered_documents,
    rank_processes,
    results,
    run_script,
    samples,
    start_script,
)
from utils.errors import UserError

SCRIPT = "eval_ppl_deepspeed"
LENGTHS = (90, 20, 150, 3, 60)  # words: an odd number of documents, unequal, two of them truncated
LAMBDA = ("--use_lambda_attention", "--local_branch", 24, "--global_branch", 4, "--limit_distance", 24)
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
    return ("--model", tiny_llama_dir, "--dataset", texts, "--max_length", 120)


def run_here(*flags):
    """The script in this process: fast, and its UserError can be seen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"scripts/{SCRIPT}.py", *map(str, flags)])
        eval_ppl_deepspeed.main()


@contextmanager
def stopped_after(commits):
    """The run is interrupted right after that many steps are committed."""
    commit, left = NllJournal.commit, [commits]

    def counting_commit(*args):
        commit(*args)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(NllJournal, "commit", counting_commit)
        yield


def nll_by_hand(model_dir, texts, max_length, convert=lambda model: model):
    """Every document's NLL from its full logits, [tokens - 1] each."""
    model = convert(AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval())
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    nlls = []
    for path in sorted(texts.iterdir()):
        ids = torch.tensor([tokenizer(path.read_text())["input_ids"][:max_length]])
        with torch.no_grad():
            logits = model(ids).logits.double()
        nlls.append(F.cross_entropy(logits[0, :-1], ids[0, 1:], reduction="none").numpy())
    return nlls


def wait_for_samples(log_dir, number, process):
    journal, deadline = log_dir / "samples.jsonl", time.monotonic() + 120
    while not journal.exists() or journal.read_bytes().count(b"\n") < number:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)


def assert_same_trial(log_dir, other, rtol):
    for name, array in arrays(other).items():
        np.testing.assert_allclose(arrays(log_dir)[name], array, rtol=rtol, atol=rtol, err_msg=name)
    assert covered_documents(log_dir) == covered_documents(other) == [line["index"] for line in samples(log_dir)]
    for ours, theirs in zip(samples(log_dir), samples(other)):
        assert ours == theirs | {"nll": pytest.approx(theirs["nll"], rel=rtol, abs=0)}


def assert_one_sentence(run, *words):
    assert run.returncode == 2, run.stdout + run.stderr
    assert "Traceback" not in run.stdout + run.stderr
    errors = [line for line in run.stderr.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert all(word in errors[0] for word in words)


@pytest.mark.parametrize("method", [(), LAMBDA], ids=["vanilla", "lambda"])
def test_numbers_are_those_of_the_full_logits(method, flags, tiny_llama_dir, texts, tmp_path):
    run_here(*flags, *method, "--log_dir", tmp_path)
    convert = (lambda model: convert_llama_model(model, 24, 4)) if method else (lambda model: model)
    nlls = nll_by_hand(tiny_llama_dir, texts, 120, convert)
    every = np.concatenate(nlls)
    found = results(tmp_path)
    assert found["documents"] == len(LENGTHS) and found["tokens"] == len(every)
    assert found["nll"] == pytest.approx(every.mean(), rel=1e-5)
    assert found["perplexity"] == pytest.approx(np.exp(every.mean()), rel=1e-4)
    assert found["bits_per_byte"] == pytest.approx(every.sum() / np.log(2) / found["bytes"], rel=1e-5)
    reached = [nll[49] for nll in nlls if len(nll) > 49]
    assert arrays(tmp_path)["count"][50] == len(reached)
    assert arrays(tmp_path)["mean"][50] == pytest.approx(np.mean(reached), rel=1e-5)
    assert [line["nll"] for line in samples(tmp_path)] == pytest.approx([nll.mean() for nll in nlls], rel=1e-5)


def test_what_a_trial_leaves(flags, tmp_path, capsys):
    run_here(*flags, *LAMBDA, "--seed", 3, "--output_dir", tmp_path, "--limit", 3)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["arguments"]["max_data_num"] == 3 and config["seed"] == 3
    assert config["lambda_attention"]["local_branch"] == 24
    assert config["model"]["model_type"] == "llama" and config["versions"]["torch"]
    console = capsys.readouterr().out
    assert "perplexity" in console and "fewer documents are averaged" not in console
    assert set(console.splitlines()) <= set((tmp_path / "log.txt").read_text().splitlines())
    assert len(samples(tmp_path)) == 3


def test_the_published_mean_counts_each_document_once(flags, tiny_llama_dir, texts, tmp_path, capsys):
    run_here(*flags, "--protocol", "published", "--log_dir", tmp_path)
    nlls = nll_by_hand(tiny_llama_dir, texts, 120)
    expected = np.mean([nll.mean() for nll in nlls])
    assert results(tmp_path)["document_nll"] == pytest.approx(expected, abs=1e-6)
    assert results(tmp_path)["nll"] == pytest.approx(np.concatenate(nlls).mean(), abs=1e-6)
    assert f"nats/token, mean of documents {expected:.4f} | " in capsys.readouterr().out


def test_long_positions_average_fewer_documents_and_it_says_so(tiny_llama_dir, tmp_path, capsys):
    texts = write_texts(tmp_path / "texts", (20, 600))
    run_here("--model", tiny_llama_dir, "--dataset", texts, "--log_dir", tmp_path / "log")
    assert "from position 1,024 on fewer documents are averaged (1 of 2" in capsys.readouterr().out


def test_batches_give_what_single_documents_give(flags, tmp_path):
    run_here(*flags, *LAMBDA, "--log_dir", tmp_path / "single")
    run_here(*flags, *LAMBDA, "--log_dir", tmp_path / "batch", "--batch_size", 3)
    assert_same_trial(tmp_path / "batch", tmp_path / "single", rtol=1e-5)


@pytest.mark.parametrize("method", [(), LAMBDA], ids=["vanilla", "lambda"])
def test_documents_in_chunks_give_what_one_forward_gives(method, flags, tmp_path, capsys):
    run_here(*flags, *method, "--log_dir", tmp_path / "whole", "--prefill_chunk", "none")
    assert "in chunks" not in capsys.readouterr().out
    run_here(*flags, *method, "--log_dir", tmp_path / "chunks", "--prefill_chunk", 17, "--batch_size", 3)
    assert "longer texts in chunks of 17 tokens" in capsys.readouterr().out
    assert_same_trial(tmp_path / "chunks", tmp_path / "whole", rtol=1e-5)
    recorded = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("whole", "chunks")]
    assert [config["prefill_chunk"] for config in recorded] == [None, 17]


def test_chunks_of_another_size_may_go_on_with_a_trial(flags, tmp_path):
    with stopped_after(2):
        run_here(*flags, *LAMBDA, "--log_dir", tmp_path, "--prefill_chunk", 17)
    run_here(*flags, *LAMBDA, "--log_dir", tmp_path, "--prefill_chunk", 30)
    assert results(tmp_path)["documents"] == len(LENGTHS)


def test_two_ranks_replicated_go_on_where_one_stopped(flags, tmp_path):
    run_here(*flags, "--log_dir", tmp_path / "one")
    with stopped_after(2):
        run_here(*flags, "--log_dir", tmp_path / "two")
    assert len(samples(tmp_path / "two")) == 2
    run = run_script(
        SCRIPT,
        *flags,
        "--log_dir",
        tmp_path / "two",
        "--deepspeed_config",
        CONFIGS / "replicated_config.json",
        ranks=2,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert_same_trial(tmp_path / "two", tmp_path / "one", rtol=1e-6)


def test_two_ranks_sharded_with_lambda_attention(flags, tmp_path):
    run_here(*flags, *LAMBDA, "--log_dir", tmp_path / "one")
    flags = (*flags, *LAMBDA, "--prefill_chunk", 50, "--log_dir", tmp_path / "two")  # 1 to 3 forwards per document
    run = run_script(SCRIPT, *flags, "--deepspeed_config", CONFIGS / "zero3_efficient_config.json", ranks=2)
    assert run.returncode == 0, run.stdout + run.stderr
    assert_same_trial(tmp_path / "two", tmp_path / "one", rtol=1e-6)
    lines = (tmp_path / "two" / "samples.jsonl").read_text().splitlines()
    assert [json.loads(line)["rank"] for line in lines] == [0, 1, 0, 1, 0]


def test_a_document_that_fails_on_one_of_two_ranks_loses_no_other(flags, texts, tmp_path):
    corpus = write_texts(tmp_path / "texts", (30, 0, 30, 30))
    run = run_script(SCRIPT, *flags, "--dataset", corpus, "--log_dir", tmp_path / "log", "--strict_data", ranks=2)
    assert_one_sentence(run, "'001.txt'", "is empty")
    assert [line["index"] for line in samples(tmp_path / "log")] == [0]
    assert not (tmp_path / "log" / "results.json").exists()


def test_killed_and_started_again_ends_as_if_never_stopped(tiny_llama_dir, tmp_path):
    texts = write_texts(tmp_path / "texts", [30 + place % 40 for place in range(80)])
    flags = ("--model", tiny_llama_dir, "--dataset", texts)
    process = start_script(SCRIPT, *flags, "--log_dir", tmp_path / "killed")
    wait_for_samples(tmp_path / "killed", 5, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "results.json").exists()
    for log_dir in ("killed", "whole"):
        assert run_script(SCRIPT, *flags, "--log_dir", tmp_path / log_dir).returncode == 0
    assert_same_trial(tmp_path / "killed", tmp_path / "whole", rtol=0)
    killed, whole = (results(tmp_path / name) for name in ("killed", "whole"))
    assert {**killed, **dict.fromkeys(VOLATILE)} == {**whole, **dict.fromkeys(VOLATILE)}


@pytest.mark.skipif(not os.path.exists("/proc/self/cmdline"), reason="finds the rank as Linux lists processes")
def test_a_rank_that_is_killed_is_named_and_loses_nothing(tiny_llama_dir, tmp_path):
    texts = write_texts(tmp_path / "texts", [200] * 200)
    flags = ("--model", tiny_llama_dir, "--dataset", texts, "--log_dir", tmp_path / "log")
    with open(tmp_path / "printed", "w") as output:
        launcher = start_script(SCRIPT, *flags, ranks=2, output=output)
    wait_for_samples(tmp_path / "log", 5, launcher)
    (victim,) = rank_processes(str(tmp_path))
    os.kill(victim, signal.SIGKILL)
    assert launcher.wait(60) != 0
    printed = (tmp_path / "printed").read_text()
    assert "Traceback" not in printed and "error: another rank has ended before its work was done" in printed
    assert run_script(SCRIPT, *flags).returncode == 0
    assert len(samples(tmp_path / "log")) == len(list(texts.iterdir()))


def test_a_finished_trial_shows_its_results_without_the_model(flags, tiny_llama_dir, tmp_path, capsys, monkeypatch):
    run_here(*flags, "--log_dir", tmp_path)
    before = capsys.readouterr().out
    monkeypatch.setattr("scripts.perplexity.experiment.load_model", lambda *_: pytest.fail("the model was loaded"))
    run_here(*flags, "--log_dir", tmp_path)
    again = capsys.readouterr().out
    assert "finished" in again and before.splitlines()[-2] in again


def test_other_arguments_are_refused_and_overwrite_starts_afresh(flags, tmp_path):
    run_here(*flags, "--log_dir", tmp_path)
    with pytest.raises(UserError, match="--max_length was 120 and is 60 now"):
        run_here(*flags, "--log_dir", tmp_path, "--max_length", 60)
    run_here(*flags, "--log_dir", tmp_path, "--max_length", 60, "--overwrite")
    assert max(line["tokens"] for line in samples(tmp_path)) == 60


def test_start_and_number_of_documents(flags, tmp_path):
    run_here(*flags, "--log_dir", tmp_path, "--start_data_from", 1, "--max_data_num", 2)
    assert [(line["index"], line["id"]) for line in samples(tmp_path)] == [(1, "001.txt"), (2, "002.txt")]


def test_nan_logits_are_named_and_the_rest_is_kept(flags, tiny_llama_dir, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_llama_dir)
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama_dir)
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer("z")["input_ids"][0]] = float("nan")
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    texts = write_texts(tmp_path / "texts", (30, 30, 30))
    (texts / "001.txt").write_text("aaaazaaaa")
    with pytest.raises(UserError, match=r"the NLL of document '001.txt' is nan at position"):
        run_here(
            "--model",
            tmp_path / "model",
            "--dataset",
            texts,
            "--log_dir",
            tmp_path / "log",
            "--batch_size",
            3,
        )
    assert [line["index"] for line in samples(tmp_path / "log")] == [0, 2]


def test_a_token_that_the_model_does_not_know_is_named_and_the_rest_is_kept(flags, tiny_tokenizer_dir, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer_dir)
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    texts = write_texts(tmp_path / "texts", (30, 30))
    (texts / "001.txt").write_text("the <new> and")
    flags = (*flags, "--tokenizer_path", tmp_path / "tokenizer", "--dataset", texts, "--log_dir", tmp_path / "log")
    with pytest.raises(UserError, match="document '001.txt' has the token '<new>' .* --tokenizer_path"):
        run_here(*flags, "--batch_size", 2)
    assert [line["index"] for line in samples(tmp_path / "log")] == [0]


@pytest.mark.parametrize(
    "changes, words",
    [
        (("--model", "./nowhere"), "--model ./nowhere"),
        (("--tokenizer_path", "./nowhere"), "--tokenizer_path ./nowhere"),
        (("--dataset", "./nowhere.txt"), "--dataset nowhere.txt"),
        (("--deepspeed_config", "./nowhere.json"), "--deepspeed_config ./nowhere.json cannot be read"),
        (("--log_dir", "/proc/nowhere"), "--log_dir /proc/nowhere cannot be written"),
        (
            ("--use_lambda_attention", "--global_branch", "500", "--max_length", "1000"),
            "--global_branch 500 is not",
        ),
        (("--local_branch", "0"), "--local_branch: must be at least 1"),
        (("--limit_distance", "8"), "--limit_distance needs --use_lambda_attention"),
    ],
)
def test_bad_input_is_one_sentence(changes, words, flags, tmp_path):
    with pytest.raises(UserError) as refusal:
        run_here(*flags, "--log_dir", tmp_path, *changes)
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


def test_bad_input_under_the_launcher_ends_it_with_an_error(flags, tmp_path):
    run = run_script(SCRIPT, *flags, "--log_dir", tmp_path, "--model", "./nowhere", ranks=2)
    assert_one_sentence(run, "--model ./nowhere")


def test_full_disk_while_writing_loses_nothing(flags, tmp_path):
    limited = ["bash", "-c", 'ulimit -f 4; exec "$@"', "limited"]  # KiB: config.json fits, nll.npz does not
    run = run_script(SCRIPT, *flags, "--log_dir", tmp_path, prefix=limited)
    assert_one_sentence(run, f"--log_dir {tmp_path} cannot be written (File too large)")
    assert not (tmp_path / "nll.npz.partial").exists()
    run_here(*flags, "--log_dir", tmp_path)
    assert results(tmp_path)["documents"] == len(samples(tmp_path)) == len(LENGTHS)


def test_constant_model_has_the_perplexity_of_its_vocabulary(flags, tiny_tokenizer_dir, tmp_path):
    run_here(*flags, "--model", "constant_model", "--tokenizer_path", tiny_tokenizer_dir, "--log_dir", tmp_path)
    vocabulary = len(AutoTokenizer.from_pretrained(tiny_tokenizer_dir))
    assert results(tmp_path)["perplexity"] == pytest.approx(vocabulary, rel=1e-5)


def test_help_is_quick_and_complete():
    started = time.monotonic()
    run = run_script(SCRIPT, "--help")
    assert run.returncode == 0 and time.monotonic() - started < 20
    for flag in (
        "--model",
        "--use_lambda_attention",
        "--dataset_group",
        "--limit",
        "--output_dir",
        "--deepspeed_config",
    ):
        assert flag in run.stdout
    assert "--local_rank" not in run.stdout
