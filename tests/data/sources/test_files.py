"""Files and folders of files, given by their path."""

import os

import pytest

from data.document import Document
from data.get_data import get_data
from tests.data.sample_files import write_bytes, write_jsonl
from utils.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """A folder with every kind of file, and some to pass over."""
    write_bytes(tmp_path / "b.txt", "Bé\r\n".encode())
    write_jsonl(tmp_path / "a.jsonl", ["a1", {"text": "a2"}])
    write_jsonl(tmp_path / "deep" / "down" / "c.jsonl.zst", ["c1", "c2"])
    write_bytes(tmp_path / "deep" / "d.txt", b"d")
    write_bytes(tmp_path / "README.md", b"not read")
    write_bytes(tmp_path / ".hidden" / "e.txt", b"not read")
    return tmp_path


DOCUMENTS = [
    Document("a.jsonl:1", 0, "a1"),
    Document("a.jsonl:2", 1, "a2"),
    Document("b.txt", 2, "Bé\r\n"),
    Document("deep/d.txt", 3, "d"),
    Document("deep/down/c.jsonl.zst:1", 4, "c1"),
    Document("deep/down/c.jsonl.zst:2", 5, "c2"),
]


def test_folder(folder):
    assert list(get_data(str(folder))) == DOCUMENTS
    assert list(get_data(folder.name, dataset_dir=folder.parent)) == DOCUMENTS


@pytest.mark.parametrize("most", range(1, 7))
def test_folder_up_to(folder, most):
    assert list(get_data(str(folder), max_data_num=most)) == DOCUMENTS[:most]


def test_folder_files_beyond_what_is_needed_are_not_opened(folder):
    write_bytes(folder / "z.jsonl.zst", b"")
    (folder / "z.jsonl.zst").write_bytes(b"bad")
    assert list(get_data(str(folder), max_data_num=6)) == DOCUMENTS
    with pytest.raises(UserError, match="z.jsonl.zst cannot be read"):
        get_data(str(folder))


def test_folder_in_a_seeded_order(folder):
    documents = list(get_data(str(folder), seed=2))
    assert [document.id for document in documents] != [document.id for document in DOCUMENTS]
    assert sorted(document.text for document in documents) == sorted(document.text for document in DOCUMENTS)


@pytest.mark.parametrize("group, texts", [("a", ["a1", "a2"]), ("b", ["Bé\r\n"]), ("deep", ["d", "c1", "c2"])])
def test_group_of_a_folder(folder, group, texts):
    assert [document.text for document in get_data(str(folder), dataset_group=group)] == texts


def test_missing_group_of_a_folder(folder):
    with pytest.raises(UserError, match="--dataset_group c is not in .*groups are: a, b, deep"):
        get_data(str(folder), dataset_group="c")


def test_text_file(folder):
    assert list(get_data(str(folder / "b.txt"))) == [Document("b.txt", 0, "Bé\r\n")]


def test_home_is_expanded(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert len(get_data("~/b.txt")) == 1


@pytest.mark.parametrize("flag", ["dataset_group", "split"])
def test_flags_that_a_file_cannot_honour(folder, flag):
    with pytest.raises(UserError, match=f"--{flag} x means nothing to --dataset .*b.txt"):
        get_data(str(folder / "b.txt"), **{flag: "x"})


def test_unknown_kind_of_file(folder):
    with pytest.raises(UserError, match=r"README.md is none of the files .*: .txt, .jsonl, .json, .csv"):
        get_data(str(folder / "README.md"))


def test_folder_without_files(tmp_path):
    (tmp_path / "README.md").write_text("nothing here")
    with pytest.raises(UserError, match="holds no file that can be read"):
        get_data(str(tmp_path))


def test_text_file_that_is_no_text(tmp_path):
    write_bytes(tmp_path / "a.txt", b"good")
    write_bytes(tmp_path / "b.txt", b"caf\xe9")
    documents = iter(get_data(str(tmp_path)))
    assert next(documents).text == "good"
    with pytest.raises(UserError, match="b.txt is not UTF-8 text: .* at byte 3"):
        next(documents)


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs Linux's /proc")
def test_unreadable_text_file(tmp_path):
    (tmp_path / "a.txt").symlink_to("/proc/self/mem")
    with pytest.raises(UserError, match="a.txt cannot be read: Input/output error"):
        list(get_data(str(tmp_path)))
