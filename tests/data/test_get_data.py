"""The selection that every corpus shares: order, seed, stretch, laziness, and numbers that make no sense."""

import tracemalloc
from pathlib import Path

import pytest

from data.document import Document
from data.get_data import SOURCES, get_data
from data.sources.text_files import TextFiles
from tests.data.sample_files import long_text, texts_of, write_jsonl
from utils.errors import UserError

TEXTS = [f"text {number}" for number in range(20)]


@pytest.fixture(params=["corpus.jsonl", "corpus.jsonl.zst"])
def corpus_path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(write_jsonl(tmp_path / request.param, TEXTS))


def test_own_order(corpus_path):
    corpus = get_data(corpus_path)
    assert corpus.name == corpus_path
    assert len(corpus) == 20
    assert texts_of(corpus) == TEXTS
    assert [document.index for document in corpus] == list(range(20))
    assert len({document.id for document in corpus}) == 20


def test_iterating_again_gives_the_same(corpus_path):
    corpus = get_data(corpus_path, seed=1)
    assert list(corpus) == list(corpus)
    first, second = iter(corpus), iter(corpus)
    assert [next(first), next(second), next(first)] == [corpus[0], corpus[0], corpus[1]]


@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize("start, most", [(0, 1), (0, 20), (5, 4), (19, 1), (18, 100), (3, None)])
def test_stretch_is_a_slice_of_the_order(corpus_path, seed, start, most):
    whole = list(get_data(corpus_path, seed=seed))
    part = get_data(corpus_path, seed=seed, start_data_from=start, max_data_num=most)
    expected = whole[start:] if most is None else whole[start : start + most]
    assert list(part) == expected
    assert len(part) == len(expected)
    assert part[0].index == start


def test_seed_draws_an_order(corpus_path):
    first, same, other = (texts_of(get_data(corpus_path, seed=seed)) for seed in (0, 0, 1))
    assert first == same
    assert first != other
    assert first != TEXTS
    assert sorted(first) == sorted(other) == sorted(TEXTS)


def test_seed_order_never_changes(corpus_path):
    """A trial resumed with a later version must still see its documents in the same order."""
    assert texts_of(get_data(corpus_path, seed=3, max_data_num=4)) == ["text 8", "text 3", "text 6", "text 5"]


def test_ids_do_not_depend_on_the_selection(corpus_path):
    ids = {document.text: document.id for document in get_data(corpus_path)}
    shuffled = get_data(corpus_path, seed=5, start_data_from=2)
    assert all(ids[document.text] == document.id for document in shuffled)


def test_one_document_is_read_without_the_others(tmp_path):
    path = tmp_path / "some_bad.jsonl"
    path.write_text('"good"\nbad\n"good too"\n')
    corpus = get_data(str(path))
    assert corpus[2] == Document("some_bad.jsonl:3", 2, "good too")
    for beyond in (3, -1):
        with pytest.raises(IndexError):
            corpus[beyond]


@pytest.mark.parametrize("name", ["big.jsonl", "big.jsonl.zst"])
@pytest.mark.parametrize("seed", [None, 1])
def test_texts_are_never_all_in_memory(tmp_path, name, seed):
    path = write_jsonl(tmp_path / name, (long_text(number, 60_000) for number in range(200)))
    tracemalloc.start()
    corpus = get_data(str(path), seed=seed)
    total = sum(len(document.text) for document in corpus)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total > 10e6
    assert peak < 1.5e6


def test_a_corpus_is_one_function(monkeypatch, tmp_path):
    (tmp_path / "a").write_text("hello")
    monkeypatch.setitem(SOURCES, "mine", lambda request: TextFiles([("a", request.dataset_dir / "a")]))
    assert list(get_data("mine", dataset_dir=tmp_path)) == [Document("a", 0, "hello")]


@pytest.mark.parametrize(
    "selection, message",
    [
        ({"start_data_from": 20}, r"--start_data_from 20 .* 20 documents"),
        ({"start_data_from": 30, "max_data_num": 5}, r"--start_data_from 30 .* 20 documents"),
        ({"start_data_from": 20, "seed": 1}, r"--start_data_from 20 .* 20 documents"),
        ({"start_data_from": -1}, "--start_data_from -1 is negative"),
        ({"max_data_num": 0}, "--max_data_num 0 leaves nothing"),
        ({"max_data_num": -3}, "--max_data_num -3"),
        ({"seed": -1}, "--seed -1 is negative"),
    ],
)
def test_impossible_numbers(corpus_path, selection, message):
    with pytest.raises(UserError, match=message):
        get_data(corpus_path, **selection)


@pytest.mark.parametrize("raw", ["", "\n", "\n \n\t\n"])
def test_empty_corpus(tmp_path, raw):
    path = tmp_path / "empty.jsonl"
    path.write_text(raw)
    with pytest.raises(UserError, match="empty.jsonl holds no documents"):
        get_data(str(path))


@pytest.mark.parametrize("name", ["/no/such", "./missing", "../missing", "missing.jsonl", "a/b/c", "a/"])
def test_missing_path_is_not_looked_for_on_the_hub(name):
    with pytest.raises(UserError, match=r"is not there: give a file, .* plays, the_pile"):
        get_data(name)


def test_missing_in_dataset_dir(tmp_path):
    with pytest.raises(UserError, match=f"--dataset {tmp_path}/texts is not there"):
        get_data("texts", dataset_dir=tmp_path)


def test_empty_name():
    with pytest.raises(UserError, match="--dataset is empty"):
        get_data("")
