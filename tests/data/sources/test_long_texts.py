"""Long texts are read piece by piece: the same text, ids and errors as whole, and no more of it than is asked for."""

import bz2
import gzip
import lzma
import random
import tracemalloc

import numpy as np
import pytest
import zstandard

from data.document import Document, LongDocument
from data.get_data import get_data
from data.pieces import PieceEncoder
from data.sources import text_files
from data.sources.text import decode, decode_blocks
from data.token_stream import TokenStream
from data.tokenization import encode_pieces, encode_text, stream_encoder
from scripts.harness.skipping import skip_of
from tests.tiny_models import VOCAB_SIZE, tiny_tokenizer
from utils.errors import UserError

COMPRESS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.compress}
TEXT = "the wörd and 中文 the 😀 and\r\nthat\n\n" * 300


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    monkeypatch.setattr(text_files, "LONG_BYTES", 1000)
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 64)
    monkeypatch.setattr("data.pieces.PIECE", 50)


class Blocks:
    """The blocks of some bytes; counts those that were asked for."""

    def __init__(self, content, size):
        self.content, self.size, self.given = content, size, 0

    def __iter__(self):
        for start in range(0, len(self.content), self.size):
            self.given += 1
            yield self.content[start : start + self.size]


@pytest.mark.parametrize("ending", COMPRESS)
def test_a_long_file_is_the_text_that_it_is_whole(ending, tmp_path):
    path = tmp_path / f"long.txt{ending}"
    path.write_bytes(COMPRESS[ending](b"\xef\xbb\xbf" + TEXT.encode()))
    (document,) = get_data(str(path))
    assert isinstance(document, LongDocument) and document.id == path.name
    assert max(map(len, document.pieces())) <= 64 and document.text == TEXT


def random_bytes(draw):
    """UTF-8 with faults."""
    content = bytearray("".join(draw.choice("aé中😀\0\n") for _ in range(draw.randint(0, 12))).encode())
    for _ in range(draw.randint(0, 2)):
        content.insert(draw.randint(0, len(content)), draw.choice(b"\x80\xc3\xe4\xf0\xff"))
    return (b"\xef\xbb\xbf" if draw.random() < 0.3 else b"") + bytes(content)


def outcome(read):
    try:
        return read()
    except UserError as error:
        return str(error)


def test_blocks_are_decoded_as_the_whole_and_refused_with_the_same_sentence(monkeypatch):
    draw, refused = random.Random(0), 0
    monkeypatch.setattr("data.sources.text.NULS", 1)  # the share of what is read so far may be another
    for _ in range(3000):
        content, size = random_bytes(draw), draw.randint(3, 8)
        whole = outcome(lambda content=content: decode(content, "x.txt"))
        blocks = outcome(lambda content=content, size=size: "".join(decode_blocks(Blocks(content, size), "x.txt")))
        assert blocks == whole, (content, size)
        refused += "is not UTF-8" in whole
    assert 1000 < refused < 2900


def test_no_text_is_refused_with_the_same_sentence(tmp_path):
    for content in (TEXT.encode("utf-16"), TEXT.encode() + b"\xff", TEXT.encode()[:-3] + b"\xe4"):
        (tmp_path / "x.txt").write_bytes(content)
        with pytest.raises(UserError) as whole:
            decode(content, str(tmp_path / "x.txt"))
        with pytest.raises(UserError) as pieces:
            assert get_data(str(tmp_path / "x.txt"))[0].text
        assert str(pieces.value) == str(whole.value)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_more_bytes_than_allowed_are_refused(ending, tmp_path):
    path = tmp_path / f"long.txt{ending}"
    path.write_bytes(COMPRESS[ending](TEXT.encode()))
    with pytest.raises(UserError, match=r"has more than 2,000 bytes.*--max_document_bytes"):
        assert get_data(str(path), max_document_bytes=2000)[0].text


def counting_document(content):
    """A long document of these bytes, and what counts the blocks that are read of it."""
    blocks = Blocks(content, 64)

    class Source:
        def pieces(self):
            return decode_blocks(blocks, "x.txt")

    return LongDocument("x.txt", 0, Source()), blocks


def test_max_length_reads_no_more_than_it_needs():
    tokenizer = tiny_tokenizer()
    document, blocks = counting_document(TEXT.encode() + b"\xff")  # which is never seen
    assert encode_pieces(tokenizer, document.pieces(), 100) == encode_text(tokenizer, TEXT, 100)
    assert blocks.given * 64 < 600 and skip_of(document, 100) is None


def test_max_length_reads_no_more_of_a_file_than_it_needs(tmp_path, monkeypatch):
    read = []
    original = text_files.LongTextFile._blocks

    def counting(file, content):
        for block in original(file, content):
            read.append(len(block))
            yield block

    monkeypatch.setattr(text_files.LongTextFile, "_blocks", counting)
    (tmp_path / "x.txt").write_bytes(TEXT.encode() + b"\xff")
    monkeypatch.setattr(text_files, "decode", None)  # which reads it whole
    encode_pieces(tiny_tokenizer(), get_data(str(tmp_path / "x.txt"))[0].pieces(), 100)
    assert 0 < sum(read) < 600


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("length", [None, 5, 300])
def test_ids_and_bytes_are_those_of_the_whole(side, length):
    tokenizer = tiny_tokenizer()
    document, _ = counting_document(TEXT.encode())
    whole = encode_text(tokenizer, TEXT, length, side)
    assert encode_pieces(tokenizer, document.pieces(), length, side) == whole
    assert len(whole.input_ids) == length or length is None


class Corpus:
    """A corpus of some documents."""

    name = "test"

    def __init__(self, *documents):
        self.documents = documents

    def __len__(self):
        return len(self.documents)

    def __getitem__(self, place):
        return self.documents[place]


def make_stream(*documents, cursor=None):
    return TokenStream(Corpus(*documents), stream_encoder(tiny_tokenizer(), VOCAB_SIZE), 0, [1], [5, 6], cursor)


def test_a_stream_reads_a_long_document_as_far_as_it_is_asked():
    document, blocks = counting_document(TEXT.encode())
    stream, whole = make_stream(document), make_stream(Document("x.txt", 0, TEXT))
    assert blocks.given == 0
    np.testing.assert_array_equal(stream.read(30), whole.read(30))
    assert 0 < blocks.given < 8
    np.testing.assert_array_equal(stream.read(20_000), whole.read(20_000))  # to its end, and again
    assert stream.cursor == whole.cursor and stream.cursor.pass_number > 0


@pytest.mark.parametrize("read", [1, 31, 4000, 9000])
def test_a_stream_goes_on_within_a_long_document(read):
    begun = make_stream(counting_document(TEXT.encode())[0])
    begun.read(read)
    expected = begun.read(500)
    cursor = make_stream(counting_document(TEXT.encode())[0])
    cursor.read(read)
    resumed = make_stream(counting_document(TEXT.encode())[0], cursor=cursor.cursor)
    np.testing.assert_array_equal(resumed.read(500), expected)


def test_what_is_held_does_not_grow_with_the_text(monkeypatch, tmp_path):
    monkeypatch.setattr(text_files, "BLOCK_BYTES", 1 << 12)
    monkeypatch.setattr("data.pieces.PIECE", 1 << 10)
    encoder, peaks = PieceEncoder(tiny_tokenizer()), []
    for size in (1 << 17, 1 << 20):
        (tmp_path / "x.txt").write_bytes(b"the word and that\n" * (size // 18))
        tracemalloc.start()
        count = sum(map(len, encoder.ids(get_data(str(tmp_path / "x.txt"))[0].pieces())))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert count > size // 10
    assert peaks[1] < 1.2 * peaks[0] and peaks[1] < 1 << 19
