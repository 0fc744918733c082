"""Splitting a file of the Pile by group, sorted by length, in one pass and little memory."""

import json
import resource
import subprocess
import sys
import tempfile
import tracemalloc
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.get_data import get_data
from data.split_pile_file import split_pile_file
from tests.data.sample_files import long_text, pile_lines, texts_of, write_bytes, write_jsonl
from utils.errors import UserError

SCRIPT = Path(__file__).resolve().parents[2] / "data" / "split_pile_file.py"
DOCUMENTS = [("ArXiv", "ccc"), ("Pile-CC", "é\n"), ("ArXiv", "a"), ("ArXiv", "bbb"), ("DM Mathematics", "")]


def run_script(*arguments: object, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("name", ["test.jsonl", "test.jsonl.zst"])
def test_published_command(tmp_path, name):
    source = write_jsonl(tmp_path / name, pile_lines(DOCUMENTS))
    done = run_script(source, tmp_path / "test", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "ArXiv: 3 documents of 1 to 3 characters" in done.stdout
    assert names_in(tmp_path / "test") == ["ArXiv.jsonl", "DM Mathematics.jsonl", "Pile-CC.jsonl"]
    assert (tmp_path / "test" / "ArXiv.jsonl").read_text() == '"a"\n"ccc"\n"bbb"\n'
    assert json.loads((tmp_path / "test" / "Pile-CC.jsonl").read_text()) == "é\n"


GROUPS = st.sampled_from(["ArXiv", "Pile-CC", "DM Mathematics"])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(GROUPS, st.text(st.characters(exclude_categories=["Cs"]))), min_size=1))
def test_round_trip(documents):
    """What the_pile reads back is each group's texts, sorted by characters, equal lengths as they came; ArXiv's those
    with a colon.
    """
    expected = defaultdict(list)
    for group, text in documents:
        expected[group].append(text)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        split_pile_file(write_jsonl(root / "test.jsonl.zst", pile_lines(documents)), root / "test")
        for group, texts in expected.items():
            kept = [text for text in texts if group != "ArXiv" or ":" in text]
            if not kept:
                with pytest.raises(UserError, match="holds no documents with ':' in them"):
                    get_data("the_pile", dataset_dir=root, dataset_group=group)
                continue
            corpus = get_data("the_pile", dataset_dir=root, dataset_group=group)
            assert texts_of(corpus) == sorted(kept, key=len)
        assert names_in(root / "test") == sorted(f"{group}.jsonl" for group in expected)


def test_equal_lengths_stay_in_order(tmp_path):
    """Enough of them that an unstable sort would mix them up."""
    texts = [f"{number:0{4 + number % 3}}" for number in range(2_000)]
    source = write_jsonl(tmp_path / "test.jsonl", pile_lines(("a", text) for text in texts))
    split_pile_file(source, tmp_path / "test")
    assert texts_of(get_data("the_pile", dataset_dir=tmp_path, dataset_group="a")) == sorted(texts, key=len)


def peak_bytes(tmp_path: Path, count: int) -> int:
    """Peak of Python's memory while splitting `count` documents of 20,000 characters."""
    lines = pile_lines((f"group {number % 3}", long_text(number, 20_000)) for number in range(count))
    source = write_jsonl(tmp_path / f"{count}.jsonl.zst", lines)
    del lines
    tracemalloc.start()
    split_pile_file(source, tmp_path / str(count))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_text(tmp_path):
    peak_bytes(tmp_path, 3)  # the first run pays for imports
    small, large = peak_bytes(tmp_path, 60), peak_bytes(tmp_path, 480)
    assert large < 1.1 * small + 480 * 64
    assert large < 480 * 20_000 / 10


GOOD = json.dumps(pile_lines([("ArXiv", "good")])[0]).encode() + b"\n"
BAD_LINES = [
    (b'{"text": "a"', "line 2 is malformed JSON"),
    (b'{"text": "\xff"}', "line 2 is not UTF-8 text"),
    (b'{"meta": {"pile_set_name": "a"}}', "line 2 has no field 'text'"),
    (b'{"text": "a"}', "line 2 has no field 'meta.pile_set_name'"),
    (b'{"text": "a", "meta": {}}', "line 2 has no field 'meta.pile_set_name'"),
    (b'{"text": "a", "meta": "ArXiv"}', "line 2 has no field 'meta.pile_set_name'"),
    (b'"a string"', "line 2 has no field 'text'"),
    (b'{"text": 3, "meta": {"pile_set_name": "a"}}', "line 2: 'text' must be a string, not a number"),
    (b'{"text": "a", "meta": {"pile_set_name": null}}', "line 2: 'meta.pile_set_name' must be .* not null"),
    (b'{"text": "a", "meta": {"pile_set_name": "../a"}}', "line 2: .* cannot be the name of a file"),
    (b'{"text": "a", "meta": {"pile_set_name": ""}}', "line 2: .* cannot be the name of a file"),
]


@pytest.mark.parametrize("bad, message", BAD_LINES)
def test_bad_line_leaves_nothing(tmp_path, bad, message):
    source = write_bytes(tmp_path / "test.jsonl", GOOD + bad + b"\n" + GOOD)
    with pytest.raises(UserError, match=message) as error:
        split_pile_file(source, tmp_path / "test")
    assert str(error.value).startswith(f"{source} line 2")
    assert names_in(tmp_path / "test") == []


def test_bad_line_on_the_command_line(tmp_path):
    source = write_bytes(tmp_path / "test.jsonl", GOOD + b"{\n")
    done = run_script(source, tmp_path / "test")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {source} line 2 is malformed JSON")
    assert len(done.stderr.splitlines()) == 1


def test_no_room_leaves_nothing(tmp_path):
    """A real write error: the system refuses files of more than 200 kB."""
    source = write_jsonl(tmp_path / "test.jsonl", pile_lines([("ArXiv", long_text(0, 4_000))] * 100))
    done = run_script(
        source,
        tmp_path / "test",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)),
    )
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path / 'test'} cannot be written: File too large\n"
    assert names_in(tmp_path / "test") == []


def test_no_room_for_the_result_keeps_what_was_there(tmp_path, monkeypatch):
    source = write_jsonl(tmp_path / "test.jsonl", pile_lines(DOCUMENTS))
    write_bytes(tmp_path / "test" / "ArXiv.jsonl", b'"old"\n')

    def no_room(group, texts, path):
        path.write_bytes(b'"half')
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("data.split_pile_file.write_sorted", no_room)
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        split_pile_file(source, tmp_path / "test", overwrite=True)
    assert names_in(tmp_path / "test") == ["ArXiv.jsonl"]
    assert (tmp_path / "test" / "ArXiv.jsonl").read_text() == '"old"\n'


def test_existing_files_are_not_lost(tmp_path):
    source = write_jsonl(tmp_path / "test.jsonl", pile_lines(DOCUMENTS))
    old = write_bytes(tmp_path / "test" / "ArXiv.jsonl", b'"old"\n')
    with pytest.raises(UserError, match="already holds ArXiv.jsonl: .* --overwrite"):
        split_pile_file(source, tmp_path / "test")
    assert old.read_text() == '"old"\n'
    assert run_script(source, tmp_path / "test", "--overwrite").returncode == 0
    assert old.read_text() == '"a"\n"ccc"\n"bbb"\n'


def test_missing_input(tmp_path):
    with pytest.raises(UserError, match="missing.jsonl is not a file"):
        split_pile_file(tmp_path / "missing.jsonl", tmp_path / "test")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("raw", [b"", b"\n\n"])
def test_empty_input(tmp_path, raw):
    with pytest.raises(UserError, match="test.jsonl holds no documents"):
        split_pile_file(write_bytes(tmp_path / "test.jsonl", raw), tmp_path / "test")


def test_output_that_is_a_file(tmp_path):
    source = write_jsonl(tmp_path / "test.jsonl", pile_lines(DOCUMENTS))
    with pytest.raises(UserError, match="test.jsonl cannot be written: File exists"):
        split_pile_file(source, source)


def test_help_shows_the_command():
    done = run_script("--help")
    assert done.returncode == 0
    assert "python data/split_pile_file.py PILE/test.jsonl.zst PILE/test" in done.stdout
