"""The speed of a stream: what is made of its chunks, and the script itself on a tiny model."""

import json
import sys

import pytest
import torch

from benchmarks import streaming_speed
from benchmarks.streaming_speed import ONE_AT_A_TIME, parse_arguments, read_stream, speeds, times_faster
from utils.errors import UserError


@pytest.fixture
def words(tiny_llama_dir, tmp_path):
    """A command line over a stream of a tiny model."""
    (tmp_path / "text.txt").write_text("the cat and the hat. " * 40)
    line = f"streaming_speed.py --model {tiny_llama_dir} --dataset {tmp_path / 'text.txt'} --local_branch 32 --chunk 64"
    return [*line.split(), "--length", "200", "--single_length", "40", "--dtypes", "float32"]


def chunks(lengths, seconds):
    ends = [sum(lengths[: place + 1]) for place in range(len(lengths))]
    return [{"end": end, "tokens": 0, "seconds": time} for end, time in zip(ends, seconds)]


def test_a_speed_is_the_tokens_between_two_positions_over_their_seconds():
    assert speeds(chunks([100, 100, 50], [2.0, 1.0, 1.0])) == [(100, 50.0), (200, 100.0), (250, 50.0)]


def test_many_chunks_are_put_together():
    found = speeds(chunks([1] * 100, [0.5] * 100), most=16)
    assert [end for end, _ in found] == [*range(7, 100, 7), 100]
    assert {speed for _, speed in found} == {2.0}


def test_the_first_speed_has_the_warm_up_and_does_not_count():
    def rows(method, *found):
        return [{"panel": "7B", "method": method, "length": 1, "tokens_per_second": speed} for speed in found]

    assert times_faster(rows("chunks of 64", 1.0, 90, 100, 800) + rows(ONE_AT_A_TIME, 5, 10)) == {"7B": 10}
    assert times_faster(rows("chunks of 64", 30) + rows(ONE_AT_A_TIME, 5)) == {"7B": 6}


def test_the_stream_is_that_of_the_evaluation_itself(words, monkeypatch):
    monkeypatch.setattr(sys, "argv", words)
    found = read_stream(parse_arguments(), "float32", length=200, chunk=64)
    assert [chunk["end"] for chunk in found] == [64, 128, 192, 200] and all(chunk["seconds"] > 0 for chunk in found)


def test_on_a_gpu_the_evaluation_is_read_in_this_process(words, monkeypatch, capsys):
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "DS_ACCELERATOR": "cpu"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(streaming_speed, "run_child", lambda *x, **y: pytest.fail("a process of its own"))
    arguments = parse_arguments()
    arguments.device = "cuda"  # and the evaluation takes the device that is here
    found = read_stream(arguments, "float32", length=200, chunk=64)
    assert [chunk["end"] for chunk in found] == [64, 128, 192, 200] and sys.argv == words
    assert capsys.readouterr() == ("", "")
    arguments.global_branch = 200
    with pytest.raises(UserError, match="^--global_branch 200 is not smaller than --streaming_length 200"):
        read_stream(arguments, "float32", length=200, chunk=64)


def test_want_of_memory_is_one_sentence(words, monkeypatch):
    def no_memory():
        raise torch.OutOfMemoryError("none left")

    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(streaming_speed.runpy, "run_path", lambda *x, **y: {"main": no_memory})
    arguments = parse_arguments()
    arguments.device = "cuda"
    with pytest.raises(UserError, match="^memory ran out over chunks of 64 tokens: give a smaller --chunk"):
        read_stream(arguments, "float32", length=200, chunk=64)


def test_its_errors_are_those_of_the_evaluation(words, monkeypatch):
    monkeypatch.setattr(sys, "argv", [*words, "--global_branch", "200"])
    with pytest.raises(UserError, match="^--global_branch 200 is not smaller than --streaming_length 200"):
        read_stream(parse_arguments(), "float32", length=200, chunk=64)


def test_both_ways_are_told_side_by_side(words, monkeypatch, capsys):
    saved, read = {}, []

    def fake(arguments, dtype, length, chunk):
        read.append((dtype, length, chunk))
        return chunks([chunk] * (length // chunk), [0.25 if chunk == 1 else 0.5] * (length // chunk))

    monkeypatch.setattr(streaming_speed, "read_stream", fake)
    monkeypatch.setattr(streaming_speed, "save_results", lambda folder, name, device, results: saved.update(results))
    monkeypatch.setattr(sys, "argv", words)
    streaming_speed.main()
    assert read == [("float32", 200, 64), ("float32", 40, 1)]
    methods = list(dict.fromkeys(row["method"] for row in saved["rows"]))
    assert methods == ["chunks of 64", ONE_AT_A_TIME] and len(saved["rows"]) == 3 + 14
    assert list(saved["times_faster_in_chunks"].values()) == [32]
    assert "32.0 times as fast in chunks of 64 as one token at a time" in capsys.readouterr().out
    assert json.dumps(saved)
