"""Trials of eval_infinite_ppl.py for tests: running them here, killing them, and what must come out, by hand."""

import gc
import json
import os
import random
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from data.token_stream import pass_order
from models.model_base import convert_model, extend_vanilla_positions
from scripts import eval_infinite_ppl
from tests.scripts.running import ROOT, results
from utils.trials.trial import Trial

SCRIPT = "eval_infinite_ppl"
CONFIGS = ROOT / "configs"
WORDS = (60, 9, 130, 0, 35)  # of the documents: one is longer than the window, one empty
LENGTH, CHUNK = 300, 32  # the last chunk is of 12
LAMBDA = ("--use_lambda_attention", "--local_branch", 16, "--global_branch", 4, "--limit_distance", 16)
VOLATILE = ("checksum", "sha256", "computed_from", "seconds", "tokens_per_second", "peak_memory_bytes", "memory_bytes")
METHODS = {
    "lambda": LAMBDA,
    "vanilla": (),
    "middle": (*LAMBDA, "--triangle_offset", 0.5),
    "window": ("--use_lambda_attention", "--local_branch", 16, "--global_branch", 0, "--limit_distance", 9),
}


def write_texts(folder, lengths):
    folder.mkdir()
    words = random.Random(0)
    for place, length in enumerate(lengths):
        text = " ".join(words.choice(["the", "and", "a", "wörd", "that"]) for _ in range(length))
        (folder / f"{place:03d}.txt").write_text(text)
    return folder


def run_here(*flags):
    """The script in this process: fast, and its UserError can be seen."""
    gc.collect()  # a trial that an exception left behind holds its lock
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"scripts/{SCRIPT}.py", *map(str, flags)])
        patch.setattr(os, "fsync", without_sync)
        eval_infinite_ppl.main()


def without_sync(_):
    """No test cuts the power, and some disks take 30 ms for each."""


class Killed(BaseException):
    """Nothing in the code may catch it: what follows does not happen, as after kill -9."""


@contextmanager
def killed_at(owner, name, call, instead=lambda original, *arguments: None, after=False):
    """Kill the run within the block at that call of a function: before it, after it, or with `instead` of it done."""
    original, calls = getattr(owner, name), [0]

    def killing(*arguments, **options):
        calls[0] += 1
        if calls[0] < call:
            return original(*arguments, **options)
        (original if after else lambda *_, **__: instead(original, *arguments))(*arguments, **options)
        raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(owner, name, killing)
        yield
    assert calls[0] == call


def token_nll(log_dir, stream=0):
    return np.fromfile(log_dir / f"token_nll_{stream:04d}.f32", dtype=np.float32)


def sums(log_dir):
    with np.load(log_dir / "stats.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(inner) for key, inner in value.items() if key not in VOLATILE}
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


def samples(log_dir):
    return [without_times(json.loads(line)) for line in (log_dir / "samples.jsonl").read_text().splitlines()]


def assert_same_files(log_dir, other):
    """Byte for byte, but for the times, and with nothing left over."""
    assert sorted(path.name for path in log_dir.iterdir()) == sorted(path.name for path in other.iterdir())
    for path in (*other.glob("token_nll_*"), other / "stats.npz"):
        assert (log_dir / path.name).read_bytes() == path.read_bytes(), path.name
    assert samples(log_dir) == samples(other)
    assert without_times(results(log_dir)) == without_times(results(other))


def stream_by_hand(texts, tokenizer, length, seed=0, separator="\n\n"):
    """The first tokens of a stream, written out from its definition."""
    documents = [path.read_text() for path in sorted(texts.iterdir())]
    tokens, number = [], 0  # its tokenizer puts nothing at a beginning
    between = separator if isinstance(separator, list) else tokenizer(separator)["input_ids"]
    while len(tokens) < length:
        for place in pass_order(len(documents), seed, number):
            ids = tokenizer(documents[place])["input_ids"]
            tokens += ids and (between if tokens else []) + ids
        number += 1
    return tokens[:length]


def nll_by_hand(model_dir, input_ids, config):
    """From the full logits of one forward over the whole: float64 [tokens - 1]."""
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()
    extend_vanilla_positions(model) if config is None else convert_model(model, config)
    with torch.no_grad():
        logits = model(torch.tensor([input_ids])).logits.double()
    return F.cross_entropy(logits[0, :-1], torch.tensor(input_ids[1:]), reduction="none").numpy()


def stopped_trial(flags, log_dir):
    """Killed after its sixth chunk, with the checkpoints of the fifth and the sixth."""
    with killed_at(Trial, "append_samples", 7):
        run_here(*flags, *LAMBDA, "--log_dir", log_dir)
    assert len(list(log_dir.glob("checkpoint-*"))) == 2
    return log_dir
