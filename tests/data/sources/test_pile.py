"""The Pile's layout: DIR/SPLIT/GROUP.jsonl."""

import pytest

from data.document import Document
from data.get_data import get_data
from tests.data.sample_files import texts_of, write_bytes, write_jsonl
from utils.errors import UserError


@pytest.fixture
def pile(tmp_path):
    write_jsonl(tmp_path / "test" / "ArXiv.jsonl", ["a:", "bb:", "ccc:"])
    write_jsonl(tmp_path / "test" / "Pile-CC.jsonl.zst", ["web"])
    write_jsonl(tmp_path / "val" / "PubMed Central.jsonl", ["val"])
    return tmp_path


def test_group_of_split(pile):
    corpus = get_data("the_pile", dataset_dir=pile, dataset_group="ArXiv", start_data_from=1)
    assert list(corpus) == [Document("ArXiv:2", 1, "bb:"), Document("ArXiv:3", 2, "ccc:")]
    corpus = get_data("the_pile", dataset_dir=str(pile), dataset_group="PubMed Central", split="val")
    assert list(corpus) == [Document("PubMed Central:1", 0, "val")]


def test_texts_of_arxiv_without_a_colon_are_no_documents_and_the_others_come_by_length(pile):
    """The published order, whatever the file's; lengths are of characters, not bytes."""
    texts = ["dddddd: d", "no colon", "ééé:é", "bb:", "aaaa:a", "e"]
    write_jsonl(pile / "test" / "ArXiv.jsonl", texts)
    expected = [("ArXiv:4", "bb:"), ("ArXiv:3", "ééé:é"), ("ArXiv:5", "aaaa:a"), ("ArXiv:1", "dddddd: d")]
    found = list(get_data("the_pile", dataset_dir=pile, dataset_group="ArXiv"))
    assert [(document.id, document.text) for document in found] == expected
    some = get_data("the_pile", dataset_dir=pile, dataset_group="ArXiv", start_data_from=1, max_data_num=2)
    assert list(some) == found[1:3]
    write_jsonl(pile / "test" / "FreeLaw.jsonl", texts)
    group = get_data("the_pile", dataset_dir=pile, dataset_group="FreeLaw")
    assert texts_of(group) == ["e", "bb:", "ééé:é", "aaaa:a", "no colon", "dddddd: d"]
    write_jsonl(pile / "test" / "ArXiv.jsonl", ["none"])
    with pytest.raises(UserError, match="ArXiv.jsonl holds no documents with ':' in them"):
        get_data("the_pile", dataset_dir=pile, dataset_group="ArXiv")


def test_compressed_group(pile):
    assert texts_of(get_data("the_pile", dataset_dir=pile, dataset_group="Pile-CC")) == ["web"]


def test_plain_file_before_compressed(pile):
    write_jsonl(pile / "test" / "Pile-CC.jsonl", ["plain"])
    assert texts_of(get_data("the_pile", dataset_dir=pile, dataset_group="Pile-CC")) == ["plain"]


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"dataset_dir": None}, "the_pile needs --dataset_dir"),
        ({"dataset_dir": "/no/such"}, "--dataset_dir /no/such is not a folder"),
        ({"dataset_group": None}, "needs --dataset_group, the groups of .*test are: ArXiv, Pile-CC"),
        ({"dataset_group": "Books3"}, "--dataset_group Books3 is not in .*test, .*: ArXiv, Pile-CC"),
        ({"dataset_group": "PubMed Central"}, "--dataset_group PubMed Central is not in"),
        ({"split": "train"}, "--split train is not a folder in .*, whose folders are: test, val"),
    ],
)
def test_missing(pile, flags, message):
    with pytest.raises(UserError, match=message):
        get_data("the_pile", **{"dataset_dir": pile, "dataset_group": "ArXiv"} | flags)


def test_split_without_groups(pile):
    (pile / "empty").mkdir()
    with pytest.raises(UserError, match="groups are: none"):
        get_data("the_pile", dataset_dir=pile, dataset_group="ArXiv", split="empty")


def test_group_without_documents(pile):
    (pile / "test" / "Empty.jsonl").write_text("\n")
    with pytest.raises(UserError, match="Empty.jsonl holds no documents"):
        get_data("the_pile", dataset_dir=pile, dataset_group="Empty")


def test_split_that_is_still_one_file(pile):
    write_bytes(pile / "train.jsonl.zst", b"")
    command = f"python data/split_pile_file.py {pile}/train.jsonl.zst {pile}/train"
    with pytest.raises(UserError, match=f"run `{command}` first"):
        get_data("the_pile", dataset_dir=pile, dataset_group="ArXiv", split="train")
