"""A text in pieces has exactly the ids of the whole, for the kinds of tokenizers that models have."""

import random
from itertools import pairwise

import numpy as np
import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from data import cuts, pieces
from data.cuts import KNOWN_SPLITS, find_cuts
from data.pieces import PieceEncoder
from data.tokenization import encode_text
from tests.tiny_models import tiny_tokenizer
from utils.errors import UserError

WORDS = "the and word wörd 中文 e\u0301 don't It'S 12345 x1 ½ ² \u0301 😀 ſ <s> _".split()
BETWEEN = [" ", "  ", "   ", "\n", "\n\n", " \n", "\n ", "\r\n", "\t", "\u00a0", "\u3000", "\u2028", ". ", ".\n", ""]
TRAINING = ["the and word wörd don't\n\n  12345 the word. the\nand " * 20]


def random_text(seed, words=60):
    draw = random.Random(seed)
    return "".join(draw.choice(WORDS) + draw.choice(BETWEEN) for _ in range(words))


def trained(normalizer=None, pre_tokenizer=None, added=(), **model):
    backend = Tokenizer(models.BPE(**model))
    if normalizer is not None:
        backend.normalizer = normalizer
    if pre_tokenizer is not None:
        backend.pre_tokenizer = pre_tokenizer
    alphabet = [] if model.get("byte_fallback") else pre_tokenizers.ByteLevel.alphabet()
    bytes_of = [f"<0x{byte:02X}>" for byte in range(256)] if model.get("byte_fallback") else []
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=alphabet, special_tokens=["<unk>", "<s>", *bytes_of], show_progress=False
    )
    text = [part.replace("\n", "") for part in TRAINING] if model.get("byte_fallback") else TRAINING
    backend.train_from_iterator(text, trainer)
    backend.add_tokens([AddedToken(token, normalized=True) for token in added])
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>")


def byte_level(use_regex=True):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def split_by(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), byte_level(use_regex=False)])


def smollm2():
    return trained(pre_tokenizer=pre_tokenizers.Sequence([pre_tokenizers.Digits(True), byte_level()]))


def gpt_neox():
    return trained(normalizers.NFC(), byte_level(), added=[" " * count for count in range(2, 12)])


def llama_3():
    return trained(pre_tokenizer=split_by(KNOWN_SPLITS[0]))


def qwen_2():
    return trained(normalizers.NFC(), split_by(KNOWN_SPLITS[1]))


def llama_2():
    normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return trained(normalizer, byte_fallback=True, fuse_unk=True, unk_token="<unk>")


def llama_metaspace():
    pre_tokenizer = pre_tokenizers.Metaspace("▁", "first", split=False)
    return trained(pre_tokenizer=pre_tokenizer, byte_fallback=True, fuse_unk=True, unk_token="<unk>")


KINDS = {kind.__name__: kind for kind in (smollm2, gpt_neox, llama_3, qwen_2, llama_2, llama_metaspace)}


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request):
    return KINDS[request.param]()


def plain(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_pieces_give_exactly_the_ids_of_the_whole(tokenizer):
    found, several = find_cuts(tokenizer), 0
    assert found is not None
    for seed in range(300):
        text = random_text(seed)
        parts = list(found.parts([text], size=1 + seed % 40))
        assert "".join(parts) == text
        several += len(parts) > 3
        ids = [
            token
            for number, part in enumerate(parts)
            for token in plain(tokenizer, part)[found.added if number else 0 :]
        ]
        assert ids == plain(tokenizer, text), (seed, text)
    assert several > 200


def test_parts_do_not_depend_on_how_the_text_comes(tokenizer):
    found, draw = find_cuts(tokenizer), random.Random(0)
    for seed in range(200):
        text, size = random_text(seed), 1 + seed % 40
        ends = sorted(draw.randint(0, len(text)) for _ in range(draw.randint(0, 30)))
        pieces = [text[start:end] for start, end in pairwise([0, *ends, len(text)])]
        assert list(found.parts(pieces, size)) == list(found.parts([text], size)), (seed, pieces)


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_cut_text_is_that_of_the_whole_in_ids_and_bytes(tokenizer, side, monkeypatch):
    for seed in range(60):
        text, longest = random_text(seed), 1 + seed
        monkeypatch.setattr(pieces, "PIECE", 10**9)
        whole = encode_text(tokenizer, text, longest, side)
        monkeypatch.setattr(pieces, "PIECE", 7)
        assert encode_text(tokenizer, text, longest, side) == whole


@pytest.mark.parametrize("side", ["right", "left"])
def test_no_more_of_a_text_is_tokenized_than_max_length_needs(side, monkeypatch):
    read, encode_part = [], cuts.encode_part
    tokenizer = tiny_tokenizer()
    encoder = pieces.piece_encoder(tokenizer)  # tries the tokenizer out

    def counting(tokenizer, text, **options):
        read.append(len(text))
        return encode_part(tokenizer, text, **options)

    monkeypatch.setattr(pieces, "encode_part", counting)
    monkeypatch.setattr(pieces, "PIECE", 100)
    text = "the word and\n" * 10_000
    assert len(encode_text(tokenizer, text, 50, side).input_ids) == 50
    assert sum(read) < 400 and encoder.cuts is not None


def test_tokenizers_that_look_further_are_not_cut(capsys, monkeypatch):
    word_piece = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    unknown = trained(pre_tokenizer=split_by(r"\S+\s*"))
    prefixed = trained(pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True))
    joined = trained(pre_tokenizer=byte_level(), added=["end\nof"])
    newlines = trained(byte_fallback=False)  # trained on newlines, without a pre-tokenizer
    for tokenizer in (PreTrainedTokenizerFast(tokenizer_object=word_piece), unknown, prefixed, joined, newlines):
        assert find_cuts(tokenizer) is None
    monkeypatch.setattr(pieces, "LARGE", 10)
    text = random_text(0)
    assert np.concatenate(list(PieceEncoder(unknown).ids([text]))).tolist() == plain(unknown, text)
    assert "are tokenized whole" in capsys.readouterr().err


def test_what_one_piece_takes_is_said_and_refused_where_memory_has_not_that_much(monkeypatch, capsys):
    """A text without blanks has no place to cut."""
    monkeypatch.setattr(pieces, "LARGE", 1000)
    encoder = PieceEncoder(tiny_tokenizer())
    assert len(list(encoder.ids(["a" * 2000]))) == 1
    said = "2,000 characters of a text are tokenized whole, as "
    assert capsys.readouterr().err.startswith(f"warning: {said}")
    monkeypatch.setattr(pieces, "free_memory", lambda device: 500 * 2000 - 1)
    with pytest.raises(UserError, match=f"{said}.*: that may take 0.0 GiB, and 0.0 are free: give a shorter text"):
        list(encoder.ids(["a" * 2000]))
