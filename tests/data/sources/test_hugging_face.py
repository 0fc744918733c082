"""Hugging Face data sets: built here and saved to disk, and the hub's failures."""

import datasets
import pytest

from data.document import Document
from data.get_data import get_data
from data.sources import hugging_face
from tests.data.sample_files import texts_of
from utils.errors import UserError


@pytest.fixture
def saved(tmp_path):
    """A folder with a data set saved without splits (`single`) and one saved with two (`splits`)."""
    table = datasets.Dataset.from_dict
    table({"text": ["a", "b", None], "label": [0, 1, 2]}).save_to_disk(tmp_path / "single")
    splits = {split: table({"body": [f"{split} {i}" for i in range(9)]}) for split in ("train", "test")}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "splits")
    return tmp_path


def test_saved_without_splits(saved):
    corpus = get_data(str(saved / "single"), max_data_num=2)
    assert list(corpus) == [Document("single:0", 0, "a"), Document("single:1", 1, "b")]


def test_saved_with_splits(saved):
    corpus = get_data("splits", dataset_dir=saved, text_field="body", split="train", start_data_from=7)
    assert texts_of(corpus) == ["train 7", "train 8"]
    assert corpus[0] == Document("splits/train:7", 7, "train 7")
    assert texts_of(get_data("splits", dataset_dir=saved, text_field="body"))[0] == "test 0"


def test_seed(saved):
    flags = {"dataset_dir": saved, "text_field": "body"}
    orders = [texts_of(get_data("splits", **flags, seed=seed)) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) == [f"test {i}" for i in range(9)]


def test_row_that_is_no_text(saved):
    documents = iter(get_data(str(saved / "single")))
    assert [next(documents).text, next(documents).text] == ["a", "b"]
    with pytest.raises(UserError, match="single, row 2, column 'text', must be a string of text, not null"):
        next(documents)


def test_a_longer_row_than_allowed_is_refused_and_no_other(tmp_path):
    texts = ["a", "wörd", "longer", None, "b"]  # the second of 5 bytes
    datasets.Dataset.from_dict({"text": texts}).save_to_disk(tmp_path / "rows")
    corpus = get_data(str(tmp_path / "rows"), max_document_bytes=5, strict=False)
    assert [corpus[place].text for place in (0, 1, 3, 4)] == ["a", "wörd", "", "b"]
    sentence = "rows, row 2, column 'text', has more than 5 bytes: take it out, or allow more with --max_document_bytes"
    with pytest.raises(UserError, match=sentence):
        corpus[2]


@pytest.mark.parametrize(
    "name, flags, message",
    [
        ("single", {"text_field": "body"}, r"no column 'body' \(--text_field\); it has: text, label"),
        ("single", {"split": "val"}, "--split val means nothing to"),
        ("single", {"dataset_group": "x"}, "--dataset_group x means nothing to"),
        ("splits", {"split": "val"}, "--split val is not in .*, whose splits are: train, test"),
    ],
)
def test_what_is_not_there(saved, name, flags, message):
    with pytest.raises(UserError, match=message):
        get_data(str(saved / name), **flags)


def test_damaged(saved):
    (saved / "single" / "state.json").write_text("not JSON")
    with pytest.raises(UserError, match=f"--dataset {saved}/single cannot be loaded: .+"):
        get_data(str(saved / "single"))


def test_empty(monkeypatch):
    empty = datasets.Dataset.from_dict({"text": []})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: empty)
    with pytest.raises(UserError, match="--dataset name holds no documents"):
        get_data("name")


def test_hub(monkeypatch):
    """The hub's library is asked for the name, configuration and split, once."""
    asked = []

    def load_dataset(*names, **flags):
        asked.append((names, flags))
        return datasets.Dataset.from_dict({"text": ["a"]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert list(get_data("owner/name", dataset_group="en", split="train")) == [
        Document("owner/name/en/train:0", 0, "a")
    ]
    assert asked == [(("owner/name", "en"), {"split": "train"})]


def test_hub_offline(monkeypatch):
    """As HF_HUB_OFFLINE=1 does; the library reads that variable when it is imported."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="no/such_set is no local path, none of plays, .* hub: Couldn't reach"):
        get_data("no/such_set")


def test_error_of_many_lines_becomes_one(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(UserError, match="hub: first line$"):
        get_data("owner/name")


def test_error_without_words(monkeypatch):
    def fail(*_, **__):
        raise KeyError

    with pytest.raises(UserError, match="it failed: KeyError"):
        hugging_face.load("it failed", fail)
