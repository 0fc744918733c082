"""Truncation, and which bytes the scored tokens stand for."""

import pytest
from tokenizers.processors import TemplateProcessing

from data.beginning import beginning_tokens, encode_begun, encode_plain
from data.document import Document
from data.tokenization import encode_separator, encode_text, stream_encoder
from tests.tiny_models import VOCAB_SIZE, tiny_tokenizer
from utils.errors import UserError

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


@pytest.fixture
def eos_tokenizer():
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
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


def test_no_end_token_where_a_text_is_cut_nor_at_its_end(eos_tokenizer):
    """Llama's add_eos_token: a model that has read it goes on with another text."""
    assert eos_tokenizer(TEXT)["input_ids"][-1] == 2
    for length, side in ((None, "right"), (8, "right"), (8, "left")):
        encoded = encode_text(eos_tokenizer, TEXT, length, side)
        assert 2 not in encoded.input_ids and encoded.input_ids[0] == 1
        assert encoded.bytes == len(scored_text(eos_tokenizer, encoded.input_ids).encode())
    assert encode_begun(eos_tokenizer, TEXT) == [1, *encode_plain(eos_tokenizer, TEXT)]


def test_what_a_tokenizer_puts_at_a_beginning(tokenizer, bos_tokenizer, eos_tokenizer):
    assert [beginning_tokens(one) for one in (tokenizer, bos_tokenizer, eos_tokenizer)] == [[], [1], [1]]


def test_one_side_leaves_no_trace_in_the_tokenizer(tokenizer):
    encode_text(tokenizer, TEXT, 3, "left")
    assert tokenizer.decode(encode_text(tokenizer, TEXT, None).input_ids) == TEXT


@pytest.mark.parametrize("text", ["", "t"])
def test_nothing_scored_is_no_bytes(tokenizer, text):
    assert encode_text(tokenizer, text, 10).bytes == 0


def test_a_streams_documents_get_no_special_tokens(bos_tokenizer):
    encode = stream_encoder(bos_tokenizer, VOCAB_SIZE)
    (input_ids,) = encode(Document("one", 0, TEXT))
    assert 1 not in input_ids and bos_tokenizer.decode(input_ids) == TEXT
    assert list(encode(Document("empty", 1, ""))) == []


def test_what_truncated_a_text_before_does_not_cut_a_streams_documents(tokenizer):
    whole = encode_plain(tokenizer, TEXT)
    encode_text(tokenizer, TEXT, 3, "left")
    assert encode_plain(tokenizer, TEXT) == whole


def test_a_streams_document_with_a_token_that_the_model_does_not_know_is_named(tokenizer):
    encode = stream_encoder(tokenizer, VOCAB_SIZE)
    tokenizer.add_tokens(["<new>"])
    with pytest.raises(UserError, match="document 'two' has the token '<new>' .* --tokenizer_path"):
        list(encode(Document("two", 1, "the <new> and")))


@pytest.mark.parametrize(
    "separator, text",
    [("\\n\\n", "\n\n"), ("\n", "\n"), (" the", " the"), ("---\\n", "---\n"), ("none", ""), ("None", "None")],
)
def test_a_separator_is_a_text_with_newlines_or_nothing(separator, text, bos_tokenizer):
    input_ids = encode_separator(bos_tokenizer, separator)
    assert 1 not in input_ids and bos_tokenizer.decode(input_ids) == text


def test_the_separator_may_be_the_end_of_sequence_token(tokenizer):
    assert encode_separator(tokenizer, "eos") == [tokenizer.eos_token_id] == [2]
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="--document_separator eos: the tokenizer has no end-of-sequence token"):
        encode_separator(tokenizer, "eos")
