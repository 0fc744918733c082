"""Every kind of file that people have: by its ending, in any case, plain and compressed; and what is none of them."""

import bz2
import gzip
import json
import lzma

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from data.get_data import get_data, is_path
from data.sources.files import words_on_unread
from tests.data.sample_files import texts_of
from utils.errors import UserError

TEXTS = ["Bé, the first", "NA", "a\ttab"]
COMPRESS = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda raw: zstandard.ZstdCompressor().compress(raw),
}
OBJECTS = [{"text": text, "n": 1} for text in TEXTS]
FILES = {
    "x.jsonl": "".join(f"{json.dumps(one)}\n" for one in OBJECTS),
    "lines.json": "".join(f"{json.dumps(one)}\n" for one in OBJECTS),
    "list.json": json.dumps(OBJECTS, indent=1),
    "strings.JSON": json.dumps(TEXTS),
    "x.csv": 'n,text\n1,"Bé, the first"\n1,NA\n1,a\ttab\n',
    "x.TSV": 'n\ttext\n1\tBé, the first\n1\tNA\n1\t"a\ttab"\n',
}


@pytest.fixture(autouse=True)
def cache_of_tables(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize("name", FILES)
def test_documents_of_every_kind_of_file(name, ending, tmp_path):
    path = tmp_path / (name + ending)
    path.write_bytes(COMPRESS[ending](FILES[name].encode()))
    assert texts_of(get_data(str(path))) == TEXTS


@pytest.mark.parametrize("ending", COMPRESS)
def test_a_text_file_is_one_document(ending, tmp_path):
    (tmp_path / f"B.TXT{ending.upper()}").write_bytes(COMPRESS[ending]("Bé\r\n".encode()))
    assert texts_of(get_data(str(tmp_path / f"B.TXT{ending.upper()}"))) == ["Bé\r\n"]


def test_a_folder_with_one_of_each(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "notes.txt").write_text("note")
    (folder / "ArXiv.jsonl.gz").write_bytes(gzip.compress(b'"arxiv"\n'))
    pyarrow.parquet.write_table(pyarrow.table({"text": ["parquet", None]}), folder / "p.parquet")
    (folder / "B.TXT").write_text("b")
    for name in ("README.md", "slides.pdf", ".hidden.docx"):
        (folder / name).write_bytes(b"")
    corpus = get_data(str(folder), strict=False)
    assert texts_of(corpus) == ["arxiv", "b", "note", "parquet", ""]
    assert corpus.unread == ("README.md", "slides.pdf")
    assert texts_of(get_data(str(folder), dataset_group="B")) == ["b"]
    with pytest.raises(UserError, match="p.parquet, row 1, column 'text', must be a string of text, not null"):
        list(get_data(str(folder)))


def test_what_is_not_read_is_named():
    assert words_on_unread(()) == ""
    assert words_on_unread(list("ab")) == "; not read there: a, b"
    assert words_on_unread(list("abcdefg")) == "; not read there: a, b, c, d, e and 2 others"


@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_noticed(order, tmp_path):
    (tmp_path / "x.txt").write_bytes("Two bytes a letter".encode(order))
    with pytest.raises(UserError, match="x.txt is not UTF-8 text: it has so many NUL bytes"):
        list(get_data(str(tmp_path / "x.txt")))


def test_one_nul_is_a_character(tmp_path):
    (tmp_path / "x.txt").write_text("a text with one \0 in it, as texts may have")
    assert "\0" in get_data(str(tmp_path / "x.txt"))[0].text


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("damage", ["cut", "other"])
def test_damaged_compression_is_one_sentence(ending, damage, tmp_path):
    raw = COMPRESS[ending](json.dumps("x" * 50).encode() + b"\n")
    path = tmp_path / f"x.jsonl{ending}"
    path.write_bytes(raw[: len(raw) // 2] if damage == "cut" else b"no such format at all")
    with pytest.raises(UserError, match=f"x.jsonl{ending} cannot be read: "):
        list(get_data(str(path)))


@pytest.mark.parametrize(
    ("name", "raw", "sentence"),
    [
        ("x.json", "{", "x.json is malformed JSON"),
        ("x.json", "[1]", "x.json, document 1, must be a string of text, not a number"),
        ("x.csv", "a,b\n1,2\n", "has no column 'text'"),
        ("x.parquet", "no parquet", "x.parquet cannot be read as a table"),
    ],
)
def test_files_that_are_not_as_they_must_be(name, raw, sentence, tmp_path):
    (tmp_path / name).write_text(raw)
    with pytest.raises(UserError, match=sentence):
        list(get_data(str(tmp_path / name)))


@pytest.mark.parametrize("name", ["x.csv", "X.PARQUET", "x.txt.gz", "x.jsonl.xz"])
def test_such_a_name_is_a_path(name):
    assert is_path(name)


@pytest.mark.parametrize("name", ["x.csv", "x.TSV", "list.json", "lines.json", "x.jsonl"])
def test_a_longer_text_than_allowed_is_refused_in_every_kind_of_file(name, tmp_path):
    path = tmp_path / name
    path.write_text(FILES[name])
    with pytest.raises(UserError, match="has more than 10 bytes.*--max_document_bytes"):
        texts_of(get_data(str(path), max_document_bytes=10))
