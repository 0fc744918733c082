"""Truncation, and which bytes the scored tokens stand for."""

import pytest
from tokenizers.processors import TemplateProcessing

from tests.tiny_models import tiny_tokenizer
from utils.tokenization import encode_text

TEXT = "the quick brÖwn fox and the dog"


def scored_text(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=True)


@pytest.fixture
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture
def bos_tokenizer():
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def test_all_but_the_first_token_counts(tokenizer):
    encoded = encode_text(tokenizer, TEXT, None)
    assert tokenizer.decode(encoded.input_ids) == TEXT
    assert encoded.bytes == len(TEXT.encode()) - len("the")


@pytest.mark.parametrize("side", ["right", "left"])
def test_truncation_keeps_one_end(tokenizer, side):
    whole = encode_text(tokenizer, TEXT, None).input_ids
    encoded = encode_text(tokenizer, TEXT, 6, side)
    assert encoded.input_ids == (whole[:6] if side == "right" else whole[-6:])
    assert encoded.bytes == len(scored_text(tokenizer, encoded.input_ids[1:]).encode())


@pytest.mark.parametrize("side", ["right", "left"])
def test_after_a_beginning_token_all_text_is_scored(bos_tokenizer, side):
    assert encode_text(bos_tokenizer, TEXT, None, side).bytes == len(TEXT.encode())
    encoded = encode_text(bos_tokenizer, TEXT, 5, side)
    assert len(encoded.input_ids) == 5 and encoded.input_ids[0] == 1
    assert encoded.bytes == len(scored_text(bos_tokenizer, encoded.input_ids[1:]).encode())


def test_one_side_leaves_no_trace_in_the_tokenizer(tokenizer):
    encode_text(tokenizer, TEXT, 3, "left")
    assert tokenizer.decode(encode_text(tokenizer, TEXT, None).input_ids) == TEXT


@pytest.mark.parametrize("text", ["", "t"])
def test_nothing_scored_is_no_bytes(tokenizer, text):
    assert encode_text(tokenizer, text, 10).bytes == 0
