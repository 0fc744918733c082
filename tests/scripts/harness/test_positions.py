"""A vanilla model with a table of positions, beyond it: one sentence, from every script."""

import importlib
import json
import sys

import pytest

from scripts.harness.positions import beyond_table, refuse_prompts_beyond_table
from tests.tiny_models import PRETRAINING_LENGTH, tiny_model, tiny_tokenizer
from utils.errors import NothingDoneError, SharedError, UserError

WORDS = f"is beyond this model's table of {PRETRAINING_LENGTH} positions"


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpt2")
    tiny_model("gpt2").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    (folder / "short.txt").write_text("the and " * 8)
    (folder / "tall.txt").write_text("the and " * 60)
    return folder


def run_here(script, *flags):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"scripts/{script}.py", *map(str, flags)])
        importlib.import_module(f"scripts.{script}").main()


def test_a_model_without_a_table_goes_anywhere():
    assert beyond_table(tiny_model(), 10**9, "this", "less") is None
    refuse_prompts_beyond_table(tiny_model(), 10**9, 10**9, "--max_length")


@pytest.mark.parametrize(("counted", "most"), [(0, 57), (5, 62), (8, 65)])
def test_the_last_generated_token_needs_no_position(counted, most):
    model = tiny_model("gpt2")
    refuse_prompts_beyond_table(model, most, 8, "--max_length", counted)
    with pytest.raises(SharedError, match=f"{WORDS}: give --max_length {most} at most"):
        refuse_prompts_beyond_table(model, most + 1, 8, "--max_length", counted)


def test_a_document_beyond_the_table(gpt2, texts, tmp_path):
    flags = ("--model", gpt2, "--dataset", texts, "--log_dir", tmp_path)
    with pytest.raises(UserError, match=rf"document 'tall.txt' \(number 1\), of \d+ tokens, {WORDS}: give --max_len"):
        run_here("eval_ppl_deepspeed", *flags)
    run_here("eval_ppl_deepspeed", *flags, "--overwrite", "--max_length", PRETRAINING_LENGTH)
    assert json.loads((tmp_path / "results.json").read_text())["documents"] == 2


@pytest.mark.parametrize(
    ("script", "flags", "sentence"),
    [
        ("eval_generation", ("--evaluate_positions", 9, 58), "--evaluate_positions 58 .* 57 at most"),
        ("eval_generation", ("--evaluate_positions", 99, "--runtime_truncation", 58), "--runtime_truncation 58 "),
        ("eval_downstream_tasks", ("--max_length", PRETRAINING_LENGTH), "--max_length 64 .* 57 at most"),
    ],
)
def test_no_room_for_what_is_generated_is_refused_before_the_run(script, flags, sentence, gpt2, texts, tmp_path):
    data = ("--dataset", texts) if script == "eval_generation" else ("--num_samples", 2)
    with pytest.raises(SharedError, match=sentence):
        run_here(script, "--model", gpt2, *data, *flags, "--max_generation_length", 8, "--log_dir", tmp_path)
    assert not (tmp_path / "config.json").exists()


def test_a_run_in_which_every_example_failed_is_no_success(gpt2, tmp_path):
    (tmp_path / "files").mkdir()
    line = json.dumps({"input": "The grass is green. " * 40, "target": "1"})
    (tmp_path / "files" / "test.jsonl").write_text(f"{line}\n{line}\n")
    flags = ("--model", gpt2, "--dataset_dir", tmp_path / "files", "--log_dir", tmp_path / "log")
    for _ in ("as it ends", "when it is shown again"):
        with pytest.raises(NothingDoneError, match="all 2 examples failed"):
            run_here("eval_downstream_tasks", *flags)
        assert json.loads((tmp_path / "log" / "results.json").read_text())["failed"] == 2
