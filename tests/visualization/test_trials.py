"""Reading log dirs: what is read, and one sentence for each that cannot be."""

import json

import numpy as np
import pytest

from tests.visualization.trial_files import write_trial
from utils.errors import UserError
from visualization.trials import lengths_to_mark, load_trial, load_trials


@pytest.fixture
def log_dir(tmp_path):
    return write_trial(tmp_path / "vanilla", [np.array([3.0, 1.0]), np.array([5.0])], pretraining_length=2)


def test_a_trial_is_read_whole(log_dir):
    trial = load_trial(log_dir)
    assert trial.label == "vanilla" and load_trial(log_dir, "other").label == "other"
    assert trial.arguments["dataset"] == "plays"
    assert trial.results["documents"] == 2
    assert trial.pretraining_length == 2
    np.testing.assert_array_equal(trial.arrays["count"], [0, 2, 1])
    np.testing.assert_array_equal(trial.arrays["sum"], [0, 8, 1])


def test_folders_of_one_name_are_told_apart_by_path(tmp_path):
    paths = [str(write_trial(tmp_path / name / "ppl", [np.ones(2)])) for name in "ab"]
    assert [trial.label for trial in load_trials(paths)] == paths
    assert [trial.label for trial in load_trials(paths, ["x", "x"])] == ["x", "x"]


def test_labels_must_be_as_many_as_trials(log_dir):
    with pytest.raises(UserError, match="--labels: 2 given for 1"):
        load_trials([str(log_dir)], ["a", "b"])


def test_lengths_are_marked_once_and_within_reach(tmp_path):
    lengths = [None, 8, 8, 20, 21]
    trials = [
        load_trial(write_trial(tmp_path / str(i), [np.ones(20)], pretraining_length=length))
        for i, length in enumerate(lengths)
    ]
    assert lengths_to_mark(trials) == [8, 20]
    assert lengths_to_mark(trials, 5) == [5]
    assert lengths_to_mark(trials, 21) == []


def test_no_folder(tmp_path):
    with pytest.raises(UserError, match="nowhere is not a folder"):
        load_trial(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["config.json", "results.json", "nll.npz"])
def test_a_file_that_is_not_there(log_dir, name):
    (log_dir / name).unlink()
    with pytest.raises(UserError, match=f"has no {name}: the trial is not finished"):
        load_trial(log_dir)


@pytest.mark.parametrize("name", ["config.json", "results.json", "nll.npz"])
@pytest.mark.parametrize("content", [b"", b"\xff\x00 nonsense", b"[1, 2"])
def test_a_file_that_is_damaged(log_dir, name, content):
    (log_dir / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name} cannot be read .* damaged"):
        load_trial(log_dir)


@pytest.mark.parametrize(
    "name, content",
    [
        ("config.json", "[]"),
        ("results.json", "3"),
        ("config.json", "{}"),
    ],
)
def test_json_of_another_kind(log_dir, name, content):
    (log_dir / name).write_text(content)
    with pytest.raises(UserError, match=f"{name} holds no"):
        load_trial(log_dir)


def test_no_flipped_byte_gives_a_traceback(log_dir):
    path = log_dir / "nll.npz"
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            load_trial(log_dir)
        except UserError:
            refused += 1
    assert refused > 20


def test_a_cut_file(log_dir):
    path = log_dir / "nll.npz"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match="nll.npz cannot be read"):
        load_trial(log_dir)


GOOD = {"count": np.array([0, 1]), "sum": np.array([0.0, 3.0]), "sum_squares": np.array([0.0, 9.0])}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"sum": np.zeros(3)}, "not of one length"),
        ({"count": np.zeros((2, 1))}, "not of one length"),
        ({"count": np.zeros(2)}, "no scored token"),
        ({"sum": np.array([0, np.nan])}, "not finite"),
        ({"sum": np.array(["a", "b"])}, "lacks the array 'sum'"),
        ({"sum": np.array([None, {}])}, "cannot be read"),
    ],
)
def test_arrays_of_another_kind(log_dir, change, message):
    np.savez(log_dir / "nll.npz", **(GOOD | change))
    with pytest.raises(UserError, match=message):
        load_trial(log_dir)


def test_a_config_without_a_model(log_dir):
    (log_dir / "config.json").write_text(json.dumps({"arguments": {}, "model": None}))
    assert load_trial(log_dir).pretraining_length is None
