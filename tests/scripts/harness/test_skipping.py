"""Documents without a text: one null of a thousand does not end a run, and none is passed over unsaid."""

import importlib
import json
import sys

import pytest

from scripts.harness.skipping import joined_skips
from tests.data.sample_files import write_jsonl
from utils.errors import UserError

TEXT = "the and a that " * 6
LINES = [{"text": text} for text in (TEXT, None, "", " \n ", "x", TEXT)]
NULL = "bad.jsonl line 2, field 'text'"
SCRIPTS = {
    "eval_ppl_deepspeed": ((), [1, 2, 3, 4]),
    "diagnose": (("--max_length", 64), [1, 2, 3, 4]),
    "eval_generation": (("--evaluate_positions", 6, "--max_generation_length", 2), [1, 2, 3]),
}


@pytest.fixture
def corpus(tmp_path):
    write_jsonl(tmp_path / "bad.jsonl", LINES)
    return tmp_path / "bad.jsonl"


def run_here(script, *flags):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"scripts/{script}.py", *map(str, flags)])
        importlib.import_module(f"scripts.{script}").main()


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("script", SCRIPTS)
def test_they_are_skipped_counted_and_named(script, batch, corpus, tiny_llama_dir, tmp_path):
    flags, expected = SCRIPTS[script]
    log_dir = tmp_path / "log"
    data = ("--model", tiny_llama_dir, "--dataset", corpus, "--batch_size", batch)
    run_here(script, *data, *flags, "--log_dir", log_dir)
    results = json.loads((log_dir / "results.json").read_text())
    assert [skip["index"] for skip in results["skipped"]] == expected
    assert results["skipped_documents"] == len(expected) and results["skipped"][0]["id"].endswith(NULL)
    log = (log_dir / "log.txt").read_text()
    assert log.count("skipped: document ") == len(expected)
    assert f"{len(expected)} documents skipped, which results.json names" in log
    indices = {json.loads(line)["index"] for line in (log_dir / "samples.jsonl").read_text().splitlines()}
    assert {0, 5} <= indices and not indices & set(expected)


def test_strict_data_stops_and_the_same_trial_goes_on_without_it(corpus, tiny_llama_dir, tmp_path):
    data = ("--model", tiny_llama_dir, "--dataset", corpus, "--log_dir", tmp_path / "log")
    with pytest.raises(UserError, match=f"{NULL}, must be a string of text, not null"):
        run_here("eval_ppl_deepspeed", *data, "--strict_data")
    run_here("eval_ppl_deepspeed", *data)
    assert json.loads((tmp_path / "log" / "results.json").read_text())["documents"] == 2
    write_jsonl(corpus, [{"text": TEXT}, {"text": " "}])
    with pytest.raises(UserError, match=r"'bad.jsonl:2' \(number 1\) is blank: .* leave out --strict_data"):
        run_here("eval_ppl_deepspeed", *data, "--strict_data", "--overwrite")


def test_a_stream_has_none_of_them(corpus, tiny_llama_dir, tmp_path):
    nlls = {}
    for name, lines in {"with": LINES, "without": [LINES[0]]}.items():
        write_jsonl(corpus, [line for line in lines if line["text"] != "x"])
        data = ("--model", tiny_llama_dir, "--dataset", corpus, "--token_cache", "none", "--log_dir", tmp_path / name)
        run_here("eval_infinite_ppl", *data, "--streaming_length", 120, "--use_lambda_attention", "--local_branch", 16)
        nlls[name] = json.loads((tmp_path / name / "results.json").read_text())["streams"][0]["nll"]
    assert nlls["with"] == pytest.approx(nlls["without"], rel=1e-6)
    assert (tmp_path / "with" / "log.txt").read_text().count("skipped: document ") == 3


def test_nothing_but_them_is_said(corpus, tiny_llama_dir, tmp_path):
    write_jsonl(corpus, [None, ""])
    with pytest.raises(UserError, match="every document of --dataset .*bad.jsonl was skipped"):
        run_here("eval_ppl_deepspeed", "--model", tiny_llama_dir, "--dataset", corpus, "--log_dir", tmp_path / "log")


def test_shards_together_name_them_all():
    skips = [{"index": 1, "id": "a", "reason": "is blank"}, {"index": 7, "id": "b", "reason": "is empty"}]
    parts = [{"skipped": skips[:1], "skipped_documents": 1}, {}, {"skipped": skips[1:], "skipped_documents": 1}]
    assert joined_skips(parts) == {"skipped_documents": 2, "skipped": skips} and joined_skips([{}]) == {}
