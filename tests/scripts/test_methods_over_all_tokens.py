"""Methods over all tokens, and static scalings, on every evaluation script: by name, resumed, in one table."""

import importlib
import json
import random
import sys

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.attention.bands.config import BandsConfig
from models.model_base import convert_model
from models.scoring.nll_scorer import NllScorer
from scripts import combine_results
from tests.scripts.running import arrays, results, samples
from utils.errors import UserError

LENGTH = 120
"""The tiny model's pre-training length is 64."""
MOVED = {
    "self_extend": {"window": 16, "group": 8},
    "dca": {"window": 5, "chunk": 44},
    "rerope": {"window": 8, "log_scale": 64},
    "leaky_rerope": {"window": 8, "factor": 16.0, "log_scale": 64},
}
METHODS = (*MOVED, "pi", "ntk", "yarn")
FLAGS = {
    "eval_ppl_deepspeed": ("--max_length", LENGTH),
    "eval_infinite_ppl": ("--streaming_length", LENGTH, "--max_length", 32, "--token_cache", "none"),
    "eval_generation": ("--max_length", LENGTH, "--evaluate_positions", 80, 100, "--max_generation_length", 4),
    "diagnose": ("--max_length", LENGTH, "--num_queries", 8, "--num_bins", 6, "--num_positions", 4, "--num_hidden", 9),
}
SHOWN = {
    "eval_ppl_deepspeed": lambda found: found["nll"],
    "eval_infinite_ppl": lambda found: found["streams"][0]["nll"],
    "eval_generation": lambda found: float(found["documents"]),
    "diagnose": lambda found: float(found["documents"]),
}


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder, words = tmp_path_factory.mktemp("corpus") / "texts", random.Random(0)
    folder.mkdir()
    for place in range(2):
        text = " ".join(words.choice(["the", "and", "a", "wörd", "that"]) for _ in range(150))
        (folder / f"{place}.txt").write_text(text)
    return folder


def run_here(script, *flags):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"scripts/{script}.py", *map(str, flags)])
        importlib.import_module(f"scripts.{script}").main()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("script", FLAGS)
def test_every_script_takes_every_method(script, method, tiny_llama_dir, texts, tmp_path):
    flags = ("--model", tiny_llama_dir, "--dataset", texts, "--method", method, *FLAGS[script], "--log_dir", tmp_path)
    run_here(script, *flags)
    assert np.isfinite(SHOWN[script](results(tmp_path)))
    config = json.loads((tmp_path / "config.json").read_text())
    parameters = BandsConfig(method, **MOVED[method]).to_dict() if method in MOVED else None
    assert config["lambda_attention"] == parameters
    assert config["arguments"]["target_length"] == (None if method in MOVED else LENGTH)


@pytest.mark.parametrize("method", MOVED)
def test_perplexity_is_that_of_the_converted_model_however_it_is_read(method, tiny_llama_dir, texts, tmp_path):
    flags = ("--model", tiny_llama_dir, "--dataset", texts, "--max_length", LENGTH, "--method", method)
    for chunk in ("none", 17):
        run_here("eval_ppl_deepspeed", *flags, "--prefill_chunk", chunk, "--log_dir", tmp_path / str(chunk))
    model = AutoModelForCausalLM.from_pretrained(tiny_llama_dir).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama_dir)
    ids = tokenizer((texts / "0.txt").read_text(), return_tensors="pt").input_ids[:, :LENGTH]
    with torch.no_grad():
        plain = NllScorer(model)(ids).mean().item()
        expected = NllScorer(convert_model(model, BandsConfig(method, **MOVED[method])))(ids).mean().item()
    assert abs(expected - plain) > 1e-3
    for chunk in ("none", 17):
        assert samples(tmp_path / str(chunk))[0]["nll"] == pytest.approx(expected, abs=2e-5)
        assert arrays(tmp_path / str(chunk))["count"][-1] == 2


def test_a_stream_goes_on_from_its_checkpoint(tiny_llama_dir, texts, tmp_path, monkeypatch):
    """The cache of all tokens is in it."""
    flags = ("--model", tiny_llama_dir, "--dataset", texts, "--method", "dca", *FLAGS["eval_infinite_ppl"])
    run_here("eval_infinite_ppl", *flags, "--log_dir", tmp_path / "whole")
    from scripts.streaming.experiment import Reading

    keep, chunks = Reading.keep, []

    def stopping(self, gathered, seconds):
        keep(self, gathered, seconds)
        chunks.append(seconds)
        if len(chunks) == 3:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Reading, "keep", stopping)
        run_here("eval_infinite_ppl", *flags, "--save_steps", 1, "--log_dir", tmp_path / "killed")
    run_here("eval_infinite_ppl", *flags, "--save_steps", 1, "--log_dir", tmp_path / "killed")
    nll = [results(tmp_path / name)["streams"][0]["nll"] for name in ("whole", "killed")]
    assert nll[0] == pytest.approx(nll[1], abs=1e-6)
    assert "going on from token 64" in (tmp_path / "killed" / "log.txt").read_text()
    assert "with --remap_positions dca the cache keeps every token" in (tmp_path / "whole" / "log.txt").read_text()


def test_a_downstream_task_and_a_table_of_methods(tiny_llama_dir, tmp_path, capsys):
    flags = ("--model", tiny_llama_dir, "--dataset", "passkey_retrieval", "--max_length", 300, "--num_samples", 2)
    for method in METHODS:
        log_dir = tmp_path / method
        run_here("eval_downstream_tasks", *flags, "--batch_size", 2, "--method", method, "--log_dir", log_dir)
        assert results(log_dir)["examples"] == 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["combine_results.py", *(str(tmp_path / method) for method in METHODS)])
        combine_results.main()
    table = capsys.readouterr().out
    assert all(f" {method} " in table for method in METHODS)


def test_another_parameter_is_another_trial(tiny_llama_dir, texts, tmp_path):
    flags = ("--model", tiny_llama_dir, "--dataset", texts, "--max_length", LENGTH, "--log_dir", tmp_path)
    run_here("eval_ppl_deepspeed", *flags, "--method", "self_extend")
    with pytest.raises(UserError, match="remap_group"):
        run_here("eval_ppl_deepspeed", *flags, "--method", "self_extend", "--remap_group", 4)


def test_ranks_cannot_read_one_text_together(tiny_llama_dir, texts, tmp_path):
    flags = ("--model", tiny_llama_dir, "--dataset", texts, "--max_length", LENGTH, "--log_dir", tmp_path)
    with pytest.raises(UserError, match="--sequence_parallel 2 contradicts --remap_positions dca"):
        run_here("eval_ppl_deepspeed", *flags, "--method", "dca", "--sequence_parallel", 2)
