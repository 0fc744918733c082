"""Lines of JSON by their place, plain and compressed, and every way such a file can be bad."""

import json
import os
import resource
import tempfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from data.get_data import get_data
from data.sources.lines import LineFile, read_lines
from tests.data.sample_files import texts_of, write_bytes, write_jsonl
from utils.errors import UserError

BLANK = st.sampled_from([b"", b" ", b"\t", b"\r"])
DOCUMENT = st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.booleans())


@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(st.one_of(DOCUMENT, BLANK), max_size=12),
    ending=st.sampled_from([b"\n", b"\r\n"]),
    last_ends=st.booleans(),
    suffix=st.sampled_from([".jsonl", ".jsonl.zst"]),
    order=st.randoms(use_true_random=False),
)
def test_any_place_gives_its_own_line(lines, ending, last_ends, suffix, order):
    """Blank lines, both line ends, no last one, text escaped or not: each id and text is its line's."""
    raw, expected = [], []
    for number, line in enumerate(lines, start=1):
        if isinstance(line, tuple):
            expected.append((f"x:{number}", line[0]))
            line = json.dumps(line[0], ensure_ascii=line[1]).encode()
        raw.append(line)
    data = ending.join(raw) + (ending if last_ends else b"")
    with tempfile.TemporaryDirectory() as folder:
        file = LineFile(write_bytes(Path(folder, "x" + suffix), data), "x", "text")
        assert len(file) == len(expected)
        places = list(range(len(file)))
        order.shuffle(places)
        assert [file.read(place) for place in places] == [expected[place] for place in places]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.zst"])
def test_scan_stops_at_what_is_needed(tmp_path, suffix):
    path = write_jsonl(tmp_path / f"x{suffix}", ["a", "b", "c"])
    assert len(LineFile(path, "x", "text", needed=2)) == 2
    assert len(LineFile(path, "x", "text", needed=9)) == 3


def test_strings_and_objects_mix(tmp_path):
    path = write_jsonl(tmp_path / "x.jsonl", ["a", {"text": "b", "meta": None}])
    assert texts_of(get_data(str(path))) == ["a", "b"]


def test_byte_order_mark_is_not_text(tmp_path):
    path = write_bytes(tmp_path / "x.jsonl", b'\xef\xbb\xbf"a"\n"b"\n')
    assert texts_of(get_data(str(path))) == ["a", "b"]


def test_progress_counts_compressed_bytes(tmp_path):
    path = write_jsonl(tmp_path / "x.jsonl.zst", ["a" * 100_000] * 10)
    seen = []
    assert len(list(read_lines(path, seen.append))) == 10
    assert seen[-1] == path.stat().st_size < 100_000
    assert seen == sorted(seen)


BAD_LINES = [
    (b'{"text": ', "line 2 is malformed JSON: .* at character"),
    (b'"a" "b"', "line 2 is malformed JSON: Extra data at character 5"),
    (b"\xff\xfe", "line 2 is not UTF-8 text: .* at byte 0"),
    (b'"\xe9"', "line 2 is not UTF-8 text: .* at byte 1"),
    (b'{"body": "a", "title": "b"}', r"line 2 has no field 'text' \(--text_field\); it has: body, title"),
    (b"{}", "line 2 has no field 'text'.*: none"),
    (b'{"text": null}', "line 2, field 'text', must be a string of text, not null"),
    (b'{"text": ["a"]}', "line 2, field 'text', must be a string of text, not a list"),
    (b"17", "line 2 must be a string of text, not a number"),
    (b"true", "line 2 must be a string of text, not true or false"),
    (b'["a"]', "line 2 must be a string of text, not a list"),
    (b'"ab\\ud800"', "line 2 holds half a surrogate pair at character 3"),
    (b"[" * 100_000, "line 2 is JSON that cannot be read"),
    (b"1" * 5_000, "line 2 is JSON that cannot be read"),
]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.zst"])
@pytest.mark.parametrize("bad, message", BAD_LINES)
def test_bad_line_is_named_when_it_is_reached(tmp_path, suffix, bad, message):
    path = write_bytes(tmp_path / f"x{suffix}", b'"good"\n' + bad + b'\n"good too"\n')
    documents = iter(get_data(str(path)))
    assert next(documents).text == "good"
    with pytest.raises(UserError, match=message) as error:
        next(documents)
    assert str(error.value).startswith(f"{path} line 2")
    assert "\n" not in str(error.value)
    assert texts_of(get_data(str(path), max_data_num=1)) == ["good"]


def test_blank_lines_count_in_line_numbers(tmp_path):
    path = write_bytes(tmp_path / "x.jsonl", b'\n\n"good"\n\nbad\n')
    with pytest.raises(UserError, match="line 5 is malformed"):
        list(get_data(str(path)))


def test_other_text_field(tmp_path):
    path = write_jsonl(tmp_path / "x.jsonl", [{"body": "a"}, {"body": "b"}])
    assert texts_of(get_data(str(path), text_field="body")) == ["a", "b"]


def test_several_frames(tmp_path):
    compress = zstandard.ZstdCompressor().compress
    path = tmp_path / "x.jsonl.zst"
    path.write_bytes(compress(b'"a"\n"b') + compress(b'c"\n') + compress(b"") + compress(b'"d"'))
    assert texts_of(get_data(str(path))) == ["a", "bc", "d"]


@pytest.mark.parametrize("kept", [3, 1_000, -1])
def test_truncated_zst(tmp_path, kept):
    lines = b"".join(b'"%s"\n' % os.urandom(500).hex().encode() for _ in range(300))
    path = write_bytes(tmp_path / "x.jsonl.zst", lines)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match="x.jsonl.zst cannot be read: the compressed data end early"):
        get_data(str(path))


@pytest.mark.parametrize("extra", [b"", b'"a"\n'])
def test_zst_that_is_none(tmp_path, extra):
    path = tmp_path / "x.jsonl.zst"
    path.write_bytes(zstandard.ZstdCompressor().compress(extra) + b"plain text, no Zstandard")
    with pytest.raises(UserError, match="x.jsonl.zst cannot be read: bad compressed data"):
        get_data(str(path))


def test_zst_copy_is_gone_with_the_corpus(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    corpus = get_data(str(write_jsonl(tmp_path / "x.jsonl.zst", ["a"])), seed=1)
    assert texts_of(corpus) == ["a"]
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_no_room_to_decompress(tmp_path, monkeypatch):
    path = write_jsonl(tmp_path / "x.jsonl.zst", ["a"])
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: open("/dev/full", "w+b", buffering=0))
    with pytest.raises(UserError, match=r"cannot be decompressed .* \(TMPDIR says where\): No space left"):
        get_data(str(path))


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="needs Linux's /proc")
def test_unreadable_file(tmp_path):
    (tmp_path / "x.jsonl").symlink_to("/proc/self/mem")
    with pytest.raises(UserError, match="x.jsonl cannot be read: Input/output error"):
        get_data(str(tmp_path / "x.jsonl"))


def test_file_gone_after_the_scan(tmp_path):
    path = write_jsonl(tmp_path / "x.jsonl", ["a"])
    corpus = get_data(str(path))
    path.unlink()
    with pytest.raises(UserError, match="x.jsonl cannot be read: No such file"):
        list(corpus)


def test_longer_lines_than_allowed_are_refused_without_being_read(tmp_path):
    path = tmp_path / "x.jsonl.zst"
    path.write_bytes(zstandard.compress(b'"a"\n"' + bytes(50 << 20) + b'"\n'))  # some kilobytes
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r"x.jsonl.zst line 2 has more than 1,000 bytes.*--max_document_bytes"):
        LineFile(path, "x", "text", most_bytes=1000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 45 << 10  # KiB


def test_a_larger_text_file_than_allowed_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("four")
    assert get_data(str(tmp_path / "a.txt"), max_document_bytes=4)[0].text == "four"
    with pytest.raises(UserError, match=r"a.txt has more than 3 bytes.*--max_document_bytes"):
        get_data(str(tmp_path / "a.txt"), max_document_bytes=3)[0]
