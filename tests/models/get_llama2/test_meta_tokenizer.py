"""Llama 2's sentencepiece tokenizer in Transformers: the same ids, the same texts."""

import re
import sys

import pytest
from sentencepiece import SentencePieceProcessor
from transformers import AutoTokenizer

from models.get_llama2.meta_tokenizer import read_tokenizer
from tests.models.get_llama2.meta_release import write_tokenizer
from utils.errors import UserError

TEXTS = [
    "Hello world",
    " leading space",
    "   ",
    "two  spaces   and\tmore\n\nlines ",
    "é中文 🙂",
    "1234 numbers of 5,678",
    "perplexity at 16,384 tokens, vanilla beside Λ-attention",
    "",
]


@pytest.fixture(scope="module")
def pieces(tokenizer_model):
    return SentencePieceProcessor(model_file=str(tokenizer_model))


@pytest.fixture(scope="module", params=["built", "loaded again"])
def tokenizer(request, tokenizer_model, tmp_path_factory):
    built = read_tokenizer(tokenizer_model, chat=True)
    if request.param == "built":
        return built
    folder = tmp_path_factory.mktemp("saved")
    built.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("text", TEXTS)
def test_ids_and_text_as_sentencepiece_has_them(tokenizer, pieces, text):
    expected = pieces.encode(text)
    ids = tokenizer(text)["input_ids"]
    assert ids == [pieces.bos_id(), *expected]
    assert tokenizer.decode(ids, skip_special_tokens=True) == pieces.decode(expected)


def test_special_tokens(tokenizer, pieces):
    assert len(tokenizer) == pieces.vocab_size()
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (pieces.bos_id(), pieces.eos_id())
    assert tokenizer.unk_token_id == pieces.unk_id()
    pair = tokenizer("one", "two")["input_ids"]
    assert pair == [pieces.bos_id(), *pieces.encode("one"), pieces.bos_id(), *pieces.encode("two")]


def test_chat_template_is_metas_dialogue(tokenizer, pieces):
    """Every pair is encoded by itself between <s> and </s>, the last message of a user without an end."""
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": " Who wrote it? "},
        {"role": "assistant", "content": " A poet. "},
        {"role": "user", "content": "Which?"},
    ]
    first = "[INST] <<SYS>>\nBe short.\n<</SYS>>\n\n Who wrote it? [/INST] A poet. "
    expected = [pieces.bos_id(), *pieces.encode(first), pieces.eos_id()]
    expected += [pieces.bos_id(), *pieces.encode("[INST] Which? [/INST]")]
    assert tokenizer.apply_chat_template(messages, return_dict=False) == expected


def test_chat_template_wants_turns(tokenizer):
    with pytest.raises(Exception, match="user and assistant in turn"):
        tokenizer.apply_chat_template([{"role": "assistant", "content": "Hello"}], tokenize=False)


def test_no_chat_template_for_a_base_model(tokenizer_model):
    assert read_tokenizer(tokenizer_model, chat=False).chat_template is None


@pytest.mark.parametrize(
    ("option", "difference"),
    [
        ({"model_type": "unigram", "byte_fallback": True}, "its model_type is 1, not 2 for BPE"),
        ({"byte_fallback": False}, "it has no byte_fallback"),
        ({"bos_id": -1}, "its bos_id is -1"),
        ({"add_dummy_prefix": False}, "it has no add_dummy_prefix"),
        ({"remove_extra_whitespaces": True}, "it has remove_extra_whitespaces"),
        ({"normalization_rule_name": "nmt_nfkc"}, "its normalizer changes characters"),
        ({"user_defined_symbols": ["<FILL>"]}, "it has user-defined pieces such as '<FILL>'"),
    ],
    ids=str,
)
def test_another_kind_is_refused_by_its_property(tmp_path, option, difference):
    """Each of these would give other ids, or no <s>."""
    path = write_tokenizer(tmp_path / "tokenizer.model", **option)
    with pytest.raises(UserError, match=re.escape(f"another kind than Llama 2's ({difference})")):
        read_tokenizer(path, chat=False)


@pytest.mark.parametrize("content", [b"IQ== 0\nIg== 1\n", b"<html>", b""], ids=["tiktoken", "page", "empty"])
def test_no_sentencepiece_model(tmp_path, content):
    path = tmp_path / "tokenizer.model"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"tokenizer\.model is (not )?a sentencepiece model"):
        read_tokenizer(path, chat=False)


@pytest.mark.parametrize("package, module", [("sentencepiece", "sentencepiece"), ("protobuf", "google.protobuf")])
def test_without_a_package_that_only_this_needs(tokenizer_model, monkeypatch, package, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=f"needs the {package} package, which is missing here: pip install {package}"):
        read_tokenizer(tokenizer_model, chat=False)
