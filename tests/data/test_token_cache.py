"""Ids on disk: each document tokenized once, never another's ids, whatever happens to the files."""

import errno
import json
import multiprocessing
from collections import Counter

import numpy as np
import pytest

from data import token_cache
from data.corpus import Corpus
from data.document import Document
from data.token_cache import ABOUT, DOCUMENTS, IDS, TokenCache
from data.token_stream import TokenStream
from data.tokenization import stream_encoder
from data.tokenizer_identity import LARGE, SMALL, id_type, tokenizer_identity
from tests.tiny_models import VOCAB_SIZE, tiny_tokenizer

TEXTS = ["the cat and the hat", "", "a dog", "that wörd and the fox and that", "the end"]
ABOUT_TEXTS = {"tokenizer": {"sha256": "0"}, "corpus": {"dataset": "some/texts.jsonl"}}


class Texts:
    def __init__(self, texts):
        self.texts = texts

    def __len__(self):
        return len(self.texts)

    def read(self, place):
        return f"document {place}", self.texts[place]


class Counting:
    """The tiny tokenizer; counts how often it is given each text, which it wants whole."""

    is_fast = False

    def __init__(self):
        self.tokenizer, self.calls = tiny_tokenizer(), Counter()

    def __call__(self, text, **options):
        self.calls[text] += 1
        return self.tokenizer(text, **options)


@pytest.fixture
def said():
    return []


@pytest.fixture
def make_cache(tmp_path, said):
    def make(about=ABOUT_TEXTS, dtype=SMALL, documents=5):
        return TokenCache(tmp_path, about, dtype, documents, said.append)

    return make


def make_stream(tokenizer, cache, texts=TEXTS, cursor=None):
    return TokenStream(
        Corpus("test", Texts(texts)), stream_encoder(tokenizer, VOCAB_SIZE, cache), 0, [1], [5, 6], cursor
    )


def one_pass(tokenizer=tiny_tokenizer, texts=TEXTS):
    return 1 + sum(len(tokenizer()(text)["input_ids"]) + 2 for text in texts if text) - 2


def read_all(cache, texts=TEXTS):
    """How often which document is tokenized when each is read once, and the ids of all."""
    tokenizer = Counting()
    encode = stream_encoder(tokenizer, VOCAB_SIZE, cache)
    ids = [
        [int(token) for part in encode(Document(f"document {place}", place, text)) for token in part]
        for place, text in enumerate(texts)
    ]
    assert ids == [tiny_tokenizer()(text)["input_ids"] for text in texts]
    return tokenizer.calls


def test_three_passes_tokenize_each_document_once_and_another_run_none(make_cache):
    expected = make_stream(tiny_tokenizer(), None).read(3 * one_pass())
    first, second = Counting(), Counting()
    np.testing.assert_array_equal(make_stream(first, make_cache()).read(len(expected)), expected)
    assert first.calls == Counter(TEXTS)
    found = make_stream(second, make_cache()).read(len(expected))
    np.testing.assert_array_equal(found, expected)
    assert not second.calls and found.dtype == np.int64


def test_a_stream_begun_without_the_cache_goes_on_with_it_and_the_other_way_round(make_cache):
    expected = make_stream(tiny_tokenizer(), None).read(2 * one_pass())
    for read in range(0, len(expected), 7):
        for first, then in ((None, make_cache()), (make_cache(), None)):
            begun = make_stream(tiny_tokenizer(), first)
            begun.read(read)
            resumed = make_stream(tiny_tokenizer(), then, cursor=begun.cursor)
            assert resumed.cursor == begun.cursor
            np.testing.assert_array_equal(resumed.read(len(expected) - read), expected[read:])


def test_documents_are_tokenized_when_their_turn_comes_and_not_before(make_cache):
    tokenizer, texts = Counting(), ["the cat " * (place + 1) for place in range(50)]
    stream = make_stream(tokenizer, make_cache(documents=50), texts)
    stream.read(3)
    assert sum(tokenizer.calls.values()) == 1


def test_ids_are_mapped_and_not_held(make_cache):
    cache = make_cache()
    read_all(cache)
    ids = cache.get(Document("document 0", 0, TEXTS[0]))
    assert isinstance(ids, np.memmap) and ids.dtype == SMALL and not ids.flags.writeable


def test_the_files_are_plain(make_cache):
    cache = make_cache()
    read_all(cache)
    assert cache.folder.name.startswith("texts.jsonl-")
    assert json.loads((cache.folder / ABOUT).read_text()) == ABOUT_TEXTS | {"ids": "<u2"}
    raw = np.fromfile(cache.folder / IDS, "<u2")
    for line in map(json.loads, (cache.folder / DOCUMENTS).read_text().splitlines()):
        expected = tiny_tokenizer()(TEXTS[line["document"]])["input_ids"]
        assert raw[line["start"] : line["start"] + line["tokens"]].tolist() == expected


def test_a_changed_text_is_noticed_said_once_and_made_again(make_cache, said):
    read_all(make_cache())
    changed = ["the cat and the dog", *TEXTS[1:3], "fox", TEXTS[4]]
    assert read_all(make_cache(), changed) == Counter({changed[0]: 1, changed[3]: 1})
    assert said == ["the text of 'document 0' has changed since it was tokenized: what has changed is made again"]
    assert not read_all(make_cache(), changed) and len(said) == 1


def test_another_tokenizer_data_set_or_type_reads_nothing_of_it(make_cache):
    read_all(make_cache())
    for about, dtype in (
        (ABOUT_TEXTS | {"tokenizer": {"sha256": "1"}}, SMALL),
        (ABOUT_TEXTS | {"corpus": {"dataset": "texts.jsonl"}}, SMALL),
        (ABOUT_TEXTS, LARGE),
    ):
        assert read_all(make_cache(about, dtype)) == Counter(TEXTS)


def test_files_put_into_the_folder_of_another_tokenizer_are_not_read(make_cache, said):
    theirs, ours = make_cache(ABOUT_TEXTS | {"tokenizer": {"sha256": "1"}}), make_cache()
    read_all(theirs)
    theirs.folder.rename(ours.folder)
    assert read_all(ours) == Counter(TEXTS) and len(said) == 1 and "is damaged at 'document 0'" in said[0]


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "flipped ids": lambda folder: flip(folder / IDS, 3),
    "truncated ids": lambda folder: (folder / IDS).write_bytes((folder / IDS).read_bytes()[:-3]),
    "no ids": lambda folder: (folder / IDS).unlink(),
    "a line that is no JSON": lambda folder: flip(folder / DOCUMENTS, 0),
    "other numbers": lambda folder: (folder / DOCUMENTS).write_text(
        (folder / DOCUMENTS).read_text().replace('"tokens": ', '"tokens": 9')
    ),
    "no numbers": lambda folder: (folder / DOCUMENTS).write_text(
        (folder / DOCUMENTS).read_text().replace('"start": ', '"start": 1e999, "x": ')
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_noticed_said_once_and_made_again(damage, make_cache, said):
    read_all(make_cache())
    DAMAGES[damage](make_cache().folder)
    assert read_all(make_cache()) and len(said) == 1 and "damaged" in said[0]
    again = make_cache()
    assert not read_all(again)


def test_a_line_whose_place_was_damaged_gives_nobody_its_ids(make_cache):
    read_all(make_cache())
    flip(make_cache().folder / DOCUMENTS, len('{"document": '))  # the first of them: 0 becomes 1
    assert read_all(make_cache()) == Counter(TEXTS[:1])
    assert not read_all(make_cache())


@pytest.mark.parametrize("cut", [1, 40])
def test_what_a_kill_left_half_written_does_not_count(cut, make_cache, said):
    read_all(make_cache())
    folder = make_cache().folder
    last = (folder / DOCUMENTS).read_bytes().splitlines(keepends=True)[-1]
    (folder / DOCUMENTS).write_bytes((folder / DOCUMENTS).read_bytes()[:-cut])
    with open(folder / IDS, "ab") as file:
        file.write(b"x")  # half an id
    assert read_all(make_cache()) == Counter(TEXTS[-1:]) and len(last) > cut
    assert not read_all(make_cache()) and not said


def test_a_folder_that_is_removed_meanwhile_is_made_again(make_cache):
    cache = make_cache()
    read_all(cache)
    for path in cache.folder.iterdir():
        path.unlink()
    cache.folder.rmdir()
    assert read_all(cache) == Counter(TEXTS)
    assert not read_all(make_cache())


@pytest.mark.parametrize("file", [IDS, DOCUMENTS, ABOUT])
def test_a_full_disk_is_said_once_and_leaves_whole_files(file, make_cache, said, monkeypatch):
    def full(path, *_):
        if path.name == file:
            raise OSError(errno.ENOSPC, "No space left on device")
        return append(path, *_) if path.name != ABOUT else replace(path, *_)

    append, replace = token_cache._append_bytes, token_cache.replace_json
    monkeypatch.setattr(token_cache, "_append_bytes", full)
    monkeypatch.setattr(token_cache, "replace_json", full)
    cache = make_cache()
    assert read_all(cache) == read_all(cache) == Counter(TEXTS)
    assert len(said) == 1 and "(No space left on device): each pass tokenizes its texts" in said[0]
    monkeypatch.undo()
    assert read_all(make_cache()) == Counter(TEXTS) and not read_all(make_cache())
    assert len(said) == 1


def test_what_was_appended_in_part_gives_its_room_back(tmp_path):
    path = tmp_path / IDS
    path.write_bytes(b"whole")
    with pytest.raises(TypeError):
        token_cache._append_bytes(path, "no bytes")
    assert path.read_bytes() == b"whole"


def test_a_folder_that_cannot_be_made_is_said_and_the_run_goes_on(said):
    cache = TokenCache(token_cache.Path("/proc/nowhere"), ABOUT_TEXTS, SMALL, len(TEXTS), said.append)
    assert read_all(cache) == Counter(TEXTS)
    assert len(said) == 1 and said[0].startswith("ids are not kept in /proc/nowhere/texts.jsonl-")


def read_many(root, queue):
    said = []
    cache = TokenCache(root, ABOUT_TEXTS, SMALL, 40, said.append)
    calls = read_all(cache, [f"the cat and {place} the hat" for place in range(40)])
    queue.put((sum(calls.values()), said))


def test_processes_that_write_at_once_leave_each_document_once(tmp_path):
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    processes = [context.Process(target=read_many, args=(tmp_path, queue)) for _ in range(4)]
    for process in processes:
        process.start()
    found = [queue.get() for _ in processes]
    for process in processes:
        process.join(60)
    assert all(not said for _, said in found) and sum(calls for calls, _ in found) >= 40
    lines = [json.loads(line) for line in next(tmp_path.glob(f"*/{DOCUMENTS}")).read_text().splitlines()]
    assert sorted(line["document"] for line in lines) == list(range(40))
    read_many(tmp_path, queue)
    assert queue.get() == (0, [])


def test_what_another_process_has_added_is_read(make_cache):
    ours, theirs = make_cache(), make_cache()
    read_all(ours, TEXTS[:1])
    assert read_all(theirs) == Counter(TEXTS[1:])
    assert not read_all(ours)


def test_a_tokenizers_identity_changes_with_all_that_changes_tokens_and_with_nothing_else():
    tokenizer = tiny_tokenizer()
    identity = tokenizer_identity(tokenizer)
    tokenizer("the cat", truncation=True, max_length=1, padding="max_length")
    assert tokenizer_identity(tokenizer) == identity == tokenizer_identity(tiny_tokenizer())
    tokenizer.split_special_tokens = True
    assert tokenizer_identity(tokenizer) != identity
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<new>"])
    assert tokenizer_identity(tokenizer) != identity


def test_ids_are_as_small_as_their_largest():
    tokenizer = tiny_tokenizer()
    assert id_type(tokenizer) == SMALL
    tokenizer.add_tokens([f"<{number}>" for number in range(2**16)])
    assert id_type(tokenizer) == LARGE
