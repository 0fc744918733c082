"""Tokenizers as users have them on disk."""

import shutil

import pytest
from sentencepiece import SentencePieceProcessor

from models.loading.pretrained import load_tokenizer
from models.loading.source import find_source
from tests.models.get_llama2.meta_release import write_tokenizer
from utils.errors import UserError

TEXT = " The cat,  and the hat."


def test_metas_own_tokenizer_gives_its_ids_behind_the_first_token(tmp_path):
    path = write_tokenizer(tmp_path / "tokenizer.model")
    pieces = SentencePieceProcessor(str(path))
    tokenizer = load_tokenizer(find_source("--tokenizer_path", str(tmp_path)))
    assert tokenizer(TEXT).input_ids == [pieces.bos_id(), *pieces.encode(TEXT)]
    assert tokenizer.pad_token == tokenizer.eos_token


def test_a_tokenizer_of_another_kind_is_refused(tmp_path):
    write_tokenizer(tmp_path / "tokenizer.model", model_type="unigram")
    with pytest.raises(UserError, match="^--tokenizer_path .*of another kind than Llama 2's"):
        load_tokenizer(find_source("--tokenizer_path", str(tmp_path)))


def test_what_transformers_saved_is_read_by_transformers(tmp_path, tiny_tokenizer_dir):
    folder = shutil.copytree(tiny_tokenizer_dir, tmp_path / "tokenizer")
    (folder / "tokenizer.model").write_bytes(b"not read")
    assert load_tokenizer(find_source("--tokenizer_path", str(folder))).vocab_size > 0
