"""The endless stream: its orders, what stands between documents, and going on at any token."""

import numpy as np
import pytest

from data.corpus import Corpus
from data.token_stream import TokenStream, pass_order
from utils.errors import UserError

BOS, SEPARATOR = 900, [901, 902]
LENGTHS = (3, 0, 5, 1, 0, 4)  # tokens; two documents are empty


class Texts:
    """A source whose document d, of length n, is the numbers 10 d, ..., 10 d + n - 1."""

    def __init__(self, lengths):
        self.lengths = lengths

    def __len__(self):
        return len(self.lengths)

    def read(self, place):
        return f"document {place}", " ".join(str(10 * place + token) for token in range(self.lengths[place]))


class Encoder:
    """Text to numbers; remembers the documents that it was given."""

    def __init__(self):
        self.read = []

    def __call__(self, document):
        self.read.append(document.index)
        return [[int(word)] for word in document.text.split()]


def make_stream(lengths=LENGTHS, seed=0, cursor=None, encode=None, first=(BOS,), separator=SEPARATOR):
    corpus = Corpus("test", Texts(lengths))
    return TokenStream(corpus, encode or Encoder(), seed, list(first), list(separator), cursor)


def expected_tokens(passes, lengths=LENGTHS, seed=0, first=(BOS,), separator=SEPARATOR):
    """Written out from the definition."""
    places = [place for number in range(passes) for place in pass_order(len(lengths), seed, number) if lengths[place]]
    tokens = list(first)
    for turn, place in enumerate(places):
        tokens += list(separator) if turn else []
        tokens += range(10 * place, 10 * place + lengths[place])
    return tokens


def test_the_stream_is_what_its_definition_says():
    expected = expected_tokens(passes=5)
    assert make_stream().read(len(expected)).tolist() == expected
    assert make_stream().read(len(expected)).dtype == np.int64
    assert expected.count(BOS) == 1 and expected[-1] not in SEPARATOR


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_it_is_the_same_in_pieces_of_any_size(size):
    expected = expected_tokens(passes=20)
    stream, found = make_stream(), []
    while len(found) + size <= len(expected):
        found += stream.read(size).tolist()
    assert found == expected[: len(found)] and (found or size > len(expected))


def test_it_goes_on_at_any_token_from_a_cursor_that_json_can_hold():
    expected = expected_tokens(passes=4)
    for read in range(len(expected)):
        begun = make_stream()
        begun.read(read)
        assert all(isinstance(value, int | bool) for value in begun.cursor.to_json().values())
        resumed = make_stream(cursor=begun.cursor)
        assert resumed.cursor == begun.cursor
        assert resumed.read(len(expected) - read).tolist() == expected[read:], read


def test_a_seed_and_a_pass_fix_the_order_and_each_pass_is_a_permutation():
    orders = [pass_order(50, seed, number).tolist() for seed in (0, 1) for number in range(3)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 6
    assert orders == [pass_order(50, seed, number).tolist() for seed in (0, 1) for number in range(3)]


def test_the_order_is_the_same_in_every_version():
    assert pass_order(8, 0, 0).tolist() == [0, 2, 1, 4, 6, 7, 3, 5]


def test_streams_of_two_seeds_differ():
    assert make_stream(seed=0).read(100).tolist() != make_stream(seed=1).read(100).tolist()


@pytest.mark.parametrize("first, separator", [((), ()), ((), (901,)), ((BOS,), ())])
def test_nothing_may_stand_at_the_beginning_or_between(first, separator):
    expected = expected_tokens(3, first=first, separator=separator)
    found = make_stream(first=first, separator=separator).read(len(expected)).tolist()
    assert found == expected


def test_documents_are_tokenized_one_by_one_when_their_turn_comes():
    encode = Encoder()
    stream = make_stream(lengths=(4,) * 9, encode=encode)
    assert encode.read == []
    for tokens in range(1, 9 * 6 - 1):  # beginning or separator, and four tokens each
        stream.read(1)
        assert len(encode.read) == len(set(encode.read)) <= -(-tokens // 5) + 1
    stream.read(200)
    assert encode.read[:9] == pass_order(9, 0, 0).tolist()


def test_reading_on_within_a_document_tokenizes_it_once_more_and_no_other():
    begun, encode = make_stream(), Encoder()
    begun.read(2)
    make_stream(cursor=begun.cursor, encode=encode)
    assert len(encode.read) == 1


@pytest.mark.parametrize("left", [0, 1, 2])
def test_a_document_that_has_become_shorter_than_the_cursor_is_named(left):
    begun = make_stream(lengths=(5, 5))
    begun.read(4)  # the beginning and three tokens
    with pytest.raises(UserError, match="--dataset test: document 'document [01]' is shorter than when .* --overwrite"):
        make_stream(lengths=(left, left), cursor=begun.cursor)


def test_a_chunk_may_span_many_passes():
    expected = expected_tokens(300, lengths=(2,))
    assert make_stream(lengths=(2,)).read(len(expected)).tolist() == expected


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("lengths", [(0, 0, 0, 3), (1, 0)])
def test_empty_documents_are_passed_over_wherever_they_fall(lengths, seed):
    expected = expected_tokens(40, lengths=lengths, seed=seed)
    assert make_stream(lengths=lengths, seed=seed).read(len(expected)).tolist() == expected


@pytest.mark.parametrize("lengths", [(0,), (0,) * 7])
def test_a_corpus_of_empty_documents_alone_is_named(lengths):
    with pytest.raises(UserError, match=f"--dataset test: its {len(lengths)} documents hold no token to score"):
        make_stream(lengths=lengths).read(1)


def test_an_error_of_the_tokenizer_comes_where_its_document_does():
    def encode(document):
        if document.index == 2:
            raise UserError("bad document")
        return [[document.index]]

    place = pass_order(6, 0, 0).tolist().index(2)
    stream = make_stream(lengths=(1,) * 6, encode=encode, first=(), separator=())
    assert len(stream.read(place)) == place
    with pytest.raises(UserError, match="bad document"):
        stream.read(1)


def test_reading_nothing_moves_nothing():
    stream = make_stream()
    assert stream.read(0).shape == (0,) and stream.cursor == make_stream().cursor
