"""Checkpoints: whole or not there, two of them, and what happens to damaged ones."""

import errno
import hashlib
import json
import shutil

import pytest
import torch

from scripts.streaming import checkpoints as checkpoints_module
from scripts.streaming.checkpoints import StreamCheckpoints
from utils.console import Console
from utils.errors import UserError

TENSORS = {"0.keys": torch.arange(6.0).view(1, 2, 3), "0.history_keys": torch.zeros(1, 2, 0, 3)}


@pytest.fixture
def checkpoints(tmp_path):
    return StreamCheckpoints(tmp_path)


def write(checkpoints, number, streams=(0,), **state):
    checkpoints.begin(number)
    digests = {}
    for stream in streams:
        digests |= checkpoints.save(number, stream, {name: tensor + number for name, tensor in TENSORS.items()})
    checkpoints.commit(number, {"chunks": number, "position": 10 * number, "seconds": 0.1, **state}, digests)


def names(log_dir):
    return sorted(path.name for path in log_dir.iterdir())


def newest_number(checkpoints):
    found = checkpoints.newest(Console())
    return None if found is None else found.state["chunks"]


def damage(folder, kind):
    state, tensors = folder / "checkpoint.json", folder / "stream_0000.safetensors"
    if kind == "truncated tensors":
        tensors.write_bytes(tensors.read_bytes()[:-5])
    elif kind == "flipped bit":
        content = bytearray(tensors.read_bytes())
        content[-3] ^= 1
        tensors.write_bytes(content)
    elif kind == "missing tensors":
        tensors.unlink()
    elif kind == "changed number":
        state.write_text(state.read_text().replace('"position": 20', '"position": 21'))
    elif kind == "missing state":
        state.unlink()
    else:
        state.write_bytes({"truncated state": state.read_bytes()[:40], "no text": b"\xff\xfe", "a list": b"[1]"}[kind])


KINDS = (
    "truncated tensors, flipped bit, missing tensors, changed number, missing state, truncated state, no text, a list"
).split(", ")


def test_what_was_saved_comes_back(checkpoints):
    write(checkpoints, 5, streams=(0, 3), streams_state=[{"cursor": {"begun": True}, "x": 0.1 + 0.2}])
    found = checkpoints.newest(Console())
    assert found.state["position"] == 50 and found.state["streams_state"] == [
        {"cursor": {"begun": True}, "x": 0.1 + 0.2}
    ]
    for stream in (0, 3):
        loaded = found.tensors(stream)
        assert set(loaded) == set(TENSORS)
        assert all(torch.equal(loaded[name], tensor + 5) for name, tensor in TENSORS.items())


def test_a_rank_that_cannot_read_it_says_so(checkpoints):
    write(checkpoints, 5)
    with pytest.raises(UserError, match=r"stream_0003.safetensors cannot be read \(.*\): all ranks must share"):
        checkpoints.newest(Console()).tensors(3)


def test_two_are_kept(checkpoints, tmp_path):
    for number in (9, 10, 11, 1_000_000_000):
        write(checkpoints, number)
    assert names(tmp_path) == ["checkpoint-000000011", "checkpoint-1000000000"]
    assert newest_number(checkpoints) == 1_000_000_000


def test_there_may_be_none(checkpoints):
    assert checkpoints.newest(Console()) is None


@pytest.mark.parametrize("older", [True, False])
def test_what_was_not_committed_does_not_count_and_goes(older, checkpoints, tmp_path):
    if older:
        write(checkpoints, 1)
    checkpoints.begin(2)
    checkpoints.save(2, 0, TENSORS)
    assert newest_number(checkpoints) == (1 if older else None)
    assert names(tmp_path) == ["checkpoint-000000001"] * older


def test_what_a_kill_left_is_in_nobodys_way(checkpoints):
    checkpoints.begin(1)
    checkpoints.save(1, 7, TENSORS)
    write(checkpoints, 1)
    assert not (checkpoints.newest(Console()).folder / "stream_0007.safetensors").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_one_is_named_and_the_one_before_it_used(kind, checkpoints, tmp_path, capsys):
    write(checkpoints, 1)
    write(checkpoints, 2)
    damage(tmp_path / "checkpoint-000000002", kind)
    assert newest_number(checkpoints) == 1
    said = capsys.readouterr().out
    assert f"{tmp_path}/checkpoint-000000002 is damaged (" in said and len(said.splitlines()) == 1
    assert names(tmp_path) == ["checkpoint-000000001"]
    write(checkpoints, 2)
    assert newest_number(checkpoints) == 2


def test_a_disk_that_cannot_be_read_is_damage(checkpoints, monkeypatch, capsys):
    write(checkpoints, 1)
    write(checkpoints, 2)
    digest = hashlib.file_digest

    def failing(file, name):
        if "checkpoint-000000002" in file.name:
            raise OSError(errno.EIO, "Input/output error")  # as reading does: no file name in it
        return digest(file, name)

    monkeypatch.setattr(checkpoints_module.hashlib, "file_digest", failing)
    assert newest_number(checkpoints) == 1
    assert "Input/output error" in capsys.readouterr().out


@pytest.mark.parametrize("number", [1, 2])
def test_all_damaged_is_one_sentence_and_nothing_is_removed(number, checkpoints, tmp_path):
    for one in range(1, number + 1):
        write(checkpoints, one)
        damage(tmp_path / f"checkpoint-{one:09d}", "flipped bit")
    before = names(tmp_path)
    with pytest.raises(UserError, match=r"no checkpoint in --log_dir .* is whole \(newest: .*\): .*--overwrite"):
        checkpoints.newest(Console())
    assert names(tmp_path) == before


def test_a_damaged_one_can_go_where_one_was_going_when_it_was_killed(checkpoints, tmp_path):
    write(checkpoints, 1)
    write(checkpoints, 2)
    shutil.copytree(tmp_path / "checkpoint-000000002", tmp_path / "checkpoint-000000002.partial")
    damage(tmp_path / "checkpoint-000000002", "flipped bit")
    assert newest_number(checkpoints) == 1
    assert names(tmp_path) == ["checkpoint-000000001"]


def test_the_state_is_plain_json(checkpoints, tmp_path):
    write(checkpoints, 1)
    state = json.loads((tmp_path / "checkpoint-000000001" / "checkpoint.json").read_text())
    assert state["files"].keys() == {"stream_0000.safetensors"} and len(state["sha256"]) == 64


def test_all_are_removed_and_nothing_else(checkpoints, tmp_path):
    write(checkpoints, 1)
    checkpoints.begin(2)
    (tmp_path / "checkpoint-7").mkdir()
    (tmp_path / "results.json").touch()
    checkpoints.remove_all()
    assert names(tmp_path) == ["checkpoint-7", "results.json"]


def test_a_full_disk_is_one_sentence(checkpoints, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    write(checkpoints, 1)
    checkpoints.begin(2)
    monkeypatch.setattr(checkpoints_module, "save_file", full)
    with pytest.raises(UserError, match=r"--log_dir .* cannot be written \(No space left on device\)"):
        checkpoints.save(2, 0, TENSORS)
    assert newest_number(checkpoints) == 1
