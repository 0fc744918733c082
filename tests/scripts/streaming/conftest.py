"""Texts, tiny models, and a trial that nothing disturbed."""

import pytest

from tests.scripts.streaming.stream_trials import CHUNK, LAMBDA, LENGTH, WORDS, run_here, write_texts
from tests.tiny_models import tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("corpus") / "texts", WORDS)


@pytest.fixture(scope="module")
def model_dirs(tmp_path_factory):
    """A folder per family, each with the tiny tokenizer."""
    folders = {}
    for model_type in ("llama", "gptj", "mpt", "gpt2"):
        folders[model_type] = tmp_path_factory.mktemp(model_type)
        tiny_model(model_type).save_pretrained(folders[model_type])
        tiny_tokenizer().save_pretrained(folders[model_type])
    return folders


@pytest.fixture(scope="module")
def flags(tiny_llama_dir, texts):
    size = ("--streaming_length", LENGTH, "--max_length", CHUNK, "--save_steps", 1)
    return ("--model", tiny_llama_dir, "--dataset", texts, *size, "--save_token_nll")


@pytest.fixture(scope="module")
def whole(flags, tmp_path_factory):
    """The log dir of a Λ run that nothing disturbed."""
    log_dir = tmp_path_factory.mktemp("whole")
    run_here(*flags, *LAMBDA, "--log_dir", log_dir)
    return log_dir
