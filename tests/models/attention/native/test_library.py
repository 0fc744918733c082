"""Whether the compiled library is taken: built from these sources, for this machine, beside torch's own OpenMP."""

import ctypes
import os
import shutil
from pathlib import Path

import pytest
import torch

from models.attention.native import library
from models.attention.native.library import compiled
from models.attention.prefill.window_weights import ARGUMENTS

built = pytest.mark.skipif(compiled("weigh_window", ARGUMENTS) is None, reason="needs what `make kernel` compiles")


@pytest.fixture(autouse=True)
def look_again():
    forget()
    yield
    forget()


def forget() -> None:
    compiled.cache_clear()
    library._library.cache_clear()


def is_taken() -> bool:
    return compiled("weigh_window", ARGUMENTS) is not None


def test_not_where_it_is_not_built(monkeypatch, tmp_path):
    monkeypatch.setattr(library, "LIBRARY", tmp_path / "none.so")
    assert not is_taken()


@pytest.mark.skipif(not library.LIBRARY.is_file(), reason="needs a C++ compiler")
def test_where_make_has_built_it_beside_the_OpenMP_of_torch():
    own = Path(torch.__file__).parent / "lib" / "libgomp.so.1"
    assert is_taken() or str(own) not in library.openmp_runtimes()


@pytest.mark.parametrize("newer", ["x.cpp", "x.h"])
def test_not_what_is_older_than_a_source_of_it(newer, monkeypatch, tmp_path):
    shutil.copy(library.LIBRARY, tmp_path / "x.so") if library.LIBRARY.is_file() else (tmp_path / "x.so").touch()
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    monkeypatch.setattr(library, "LIBRARY", tmp_path / "x.so")
    (tmp_path / newer).touch()
    os.utime(tmp_path / "x.so", (0, 0))
    assert not is_taken()


@pytest.mark.parametrize("content", [b"", b"\x7fELF of another machine"])
def test_not_what_cannot_be_loaded(monkeypatch, tmp_path, content):
    monkeypatch.setattr(library, "LIBRARY", tmp_path / "other.so")
    library.LIBRARY.write_bytes(content)
    assert not is_taken()


@built
def test_not_what_has_no_such_pass():
    assert compiled("another", (ctypes.c_int64,)) is None


@built
def test_not_where_it_brings_threads_of_its_own(monkeypatch, tmp_path):
    shutil.copy(library.LIBRARY, tmp_path / "libgomp.so")
    monkeypatch.setattr(library, "LIBRARY", tmp_path / "libgomp.so")
    assert not is_taken()
    assert compiled("rms_norm", ()) is None, "the second one that is asked for finds them loaded already"


def test_a_system_that_tells_of_no_libraries(monkeypatch, tmp_path):
    monkeypatch.setattr(library, "MEMORY_MAP", tmp_path / "none")
    assert library.openmp_runtimes() == set() and not is_taken()


def test_a_folder_with_a_blank_in_its_name(monkeypatch, tmp_path):
    path = "/home/me/My Projects/.venv/lib/libgomp.so.1"
    (tmp_path / "maps").write_text(f"7f00-7f01 r-xp 00000000 08:01 42                  {path}\n")
    monkeypatch.setattr(library, "MEMORY_MAP", tmp_path / "maps")
    assert library.openmp_runtimes() == {path}
