"""A tiny release as Meta's download leaves it."""

from pathlib import Path

import pytest

from tests.models.get_llama2.meta_release import write_tokenizer


@pytest.fixture(scope="session")
def tokenizer_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentencepiece model of Llama 2's kind."""
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.model")
