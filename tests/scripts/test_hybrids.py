"""The scripts with models of which some layers carry a recurrent state: chunks, resume, batches, shared beginnings."""

import os
import sys

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from models.attention.config import LambdaConfig
from models.model_base import convert_model, extend_vanilla_positions
from scripts import eval_ppl_deepspeed
from scripts.generation.arguments import Generation
from scripts.generation.padding import pad_left
from tests.models.every_type import types
from tests.scripts.downstream.test_shared_prefill import counted, cut, in_batches
from tests.scripts.generation.test_chunks import PROMPTS, generator
from tests.scripts.generation.test_way import reason
from tests.scripts.running import arrays
from tests.scripts.streaming.stream_trials import (
    LAMBDA,
    METHODS,
    WORDS,
    assert_same_files,
    killed_at,
    nll_by_hand,
    run_here,
    stream_by_hand,
    token_nll,
    without_sync,
    write_texts,
)
from tests.tiny_models import tiny_model, tiny_tokenizer
from utils.trials.trial import Trial

STREAMED = pytest.mark.parametrize("model_type", types(within=("bamba", "falcon_h1", "jamba", "lfm2", "qwen3_5_text")))
FEW = pytest.mark.parametrize("model_type", types(within=("falcon_h1", "jamba")))
LENGTH, CONFIG = 150, LambdaConfig(16, 4, 16)
CONVERSIONS = {"lambda": lambda model: convert_model(model, CONFIG), "vanilla": extend_vanilla_positions}


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("corpus") / "texts", [length for length in WORDS if length])


@pytest.fixture
def model_dir(model_type, tmp_path):
    tiny_model(model_type).save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@STREAMED
@pytest.mark.parametrize("method", ["lambda", "vanilla"])
def test_a_stream_killed_and_resumed_equals_one_that_was_not(model_type, method, model_dir, texts, tmp_path):
    size = ("--streaming_length", LENGTH, "--max_length", 32, "--save_steps", 1, "--streams", 2, "--save_token_nll")
    flags = ("--model", model_dir, "--dataset", texts, *size, *METHODS[method])
    run_here(*flags, "--log_dir", tmp_path / "whole")
    with killed_at(Trial, "append_samples", 4):
        run_here(*flags, "--log_dir", tmp_path / "killed")
    run_here(*flags, "--log_dir", tmp_path / "killed")
    assert "going on from token" in (tmp_path / "killed" / "log.txt").read_text()
    assert_same_files(tmp_path / "killed", tmp_path / "whole")

    input_ids = stream_by_hand(texts, AutoTokenizer.from_pretrained(model_dir), LENGTH)
    expected = nll_by_hand(model_dir, input_ids, CONFIG if method == "lambda" else None)
    np.testing.assert_allclose(token_nll(tmp_path / "whole"), expected, rtol=0, atol=1e-4)


@FEW
@pytest.mark.parametrize("method", [LAMBDA, ()], ids=["lambda", "vanilla"])
def test_documents_in_chunks_give_what_one_forward_gives(model_type, method, model_dir, texts, tmp_path):
    found = []
    for chunk in (17, "none"):
        flags = ("--model", model_dir, "--dataset", texts, "--max_length", 120, "--batch_size", 3, *method)
        with pytest.MonkeyPatch.context() as patch:
            line = [*flags, "--prefill_chunk", chunk, "--log_dir", tmp_path / str(chunk)]
            patch.setattr(sys, "argv", ["scripts/eval_ppl_deepspeed.py", *map(str, line)])
            patch.setattr(os, "fsync", without_sync)
            eval_ppl_deepspeed.main()
        found.append(arrays(tmp_path / str(chunk)))
    for name, values in found[0].items():
        np.testing.assert_allclose(values, found[1][name], rtol=1e-5, atol=1e-4)


@STREAMED
@pytest.mark.parametrize("convert", CONVERSIONS)
def test_chunks_and_padding_change_no_generated_token(model_type, convert):
    model = CONVERSIONS[convert](tiny_model(model_type))
    expected = [generator(model, None).generate(torch.tensor([ids])).texts[0] for ids in PROMPTS]
    input_ids, mask = pad_left(PROMPTS)
    for chunk in (30, *([1] if convert == "lambda" else [])):
        assert generator(model, chunk).generate(input_ids, attention_mask=mask).texts == expected


@FEW
@pytest.mark.parametrize("convert", CONVERSIONS)
def test_answers_from_a_shared_beginning_are_those_of_each_prompt_alone(model_type, convert):
    model = CONVERSIONS[convert](tiny_model(model_type))
    alone = counted(model, in_batches(1), shares=False)
    for size in (1, 3):
        shared = counted(model, in_batches(size), shares=True)
        assert [cut(row) for row in shared.ids] == [cut(row) for row in alone.ids]
        assert size > 1 or shared.read < 0.5 * alone.read


def test_a_step_with_recurrent_states_is_not_captured():
    assert reason(Generation(), model_type="bamba") == "a capture would move the recurrent states on"
