"""Reading log dirs: what is read, and one sentence for each that cannot be."""

import json

import numpy as np
import pytest

from tests.utils.trials.trial_files import (
    long_sums,
    refusals_of_flipped_bytes,
    token_sums,
    write_stream_trial,
    write_trial,
)
from utils.errors import UserError
from utils.trials.examples import read_trial
from utils.trials.finished import label_trials, lengths_to_mark, read_log_dir
from utils.trials.nll_trials import DocumentTrial, StreamTrial, load_trial, load_trials


@pytest.fixture
def log_dir(tmp_path):
    return write_trial(tmp_path / "vanilla", [np.array([3.0, 1.0]), np.array([5.0])], pretraining_length=2)


def test_a_trial_is_read_whole(log_dir):
    trial = load_trial(log_dir)
    assert trial.label == "vanilla" and load_trial(log_dir, "other").label == "other"
    assert trial.arguments["dataset"] == "plays"
    assert trial.results["documents"] == 2
    assert trial.pretraining_length == 2
    assert isinstance(trial, DocumentTrial) and (trial.length, trial.tokens) == (3, 3)
    np.testing.assert_array_equal(trial.arrays["count"], [0, 2, 1])
    np.testing.assert_array_equal(trial.arrays["sum"], [0, 8, 1])


def test_folders_of_one_name_are_told_apart_by_those_above(tmp_path):
    paths = [str(write_trial(tmp_path / name / "ppl", [np.ones(2)])) for name in "ab"]
    assert [trial.label for trial in load_trials(paths)] == ["a/ppl", "b/ppl"]
    assert label_trials(["x/a/c", "y/b/c", "y/a/c"]) == ["x/a/c", "y/b/c", "y/a/c"]
    assert label_trials(["x/c", "x/d", "x/c"]) == ["c", "d", "c"]
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
    assert refusals_of_flipped_bytes(log_dir / "nll.npz", lambda: load_trial(log_dir), step=7) > 20


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
    (log_dir / "config.json").write_text(json.dumps({"script": "eval_ppl_deepspeed", "arguments": {}, "model": None}))
    assert load_trial(log_dir).pretraining_length is None


@pytest.mark.parametrize("script", ["eval_generation", None, ["eval_infinite_ppl"]])
def test_a_trial_of_another_script(log_dir, script):
    (log_dir / "config.json").write_text(json.dumps({"script": script, "arguments": {}}))
    with pytest.raises(UserError, match="config.json is of the script .* which measures no NLL by position"):
        load_trial(log_dir)


@pytest.mark.parametrize("script", ["train", None, ["eval_infinite_ppl"], {}])
@pytest.mark.parametrize("read", [read_log_dir, read_trial, load_trial])
def test_every_view_of_a_log_dir_refuses_a_foreign_one_in_the_same_words(log_dir, read, script):
    (log_dir / "config.json").write_text(json.dumps({"script": script, "arguments": {}}))
    with pytest.raises(UserError) as error:
        read(log_dir)
    assert str(error.value).startswith(f"{log_dir / 'config.json'} is of the script {script!r}")
    assert ": give trials of eval_" in str(error.value)


def test_samples_and_arrays_are_read_when_they_are_asked_for(log_dir):
    (log_dir / "nll.npz").unlink()
    trial = read_log_dir(log_dir)
    assert (trial.script, trial.results["documents"], trial.pretraining_length) == ("eval_ppl_deepspeed", 2, 2)
    with pytest.raises(UserError, match="has no nll.npz"):
        trial.read_arrays()


@pytest.fixture
def stream_dir(tmp_path):
    rng = np.random.default_rng(0)
    return write_stream_trial(tmp_path / "stream", [token_sums(rng.gamma(1.0, 3.0, 2999)) for _ in range(3)])


def test_a_stream_is_read_whole(stream_dir):
    trial = load_trial(stream_dir)
    assert isinstance(trial, StreamTrial)
    assert (trial.length, trial.streams, trial.bucket, trial.tokens) == (3000, 3, 2, 3 * 2999)
    assert trial.arrays["log_sum"].sum() == pytest.approx(trial.arrays["linear_sum"].sum())


@pytest.mark.parametrize("kind", ["documents", "stream"])
def test_totals_between_edges_are_those_of_the_tokens(tmp_path, kind):
    texts = [np.arange(1.0, 60.0), 2 * np.arange(1.0, 60.0)]
    if kind == "stream":
        trial = load_trial(write_stream_trial(tmp_path / kind, [token_sums(text) for text in texts]))
    else:
        trial = load_trial(write_trial(tmp_path / kind, texts))
        texts = [np.stack(texts)]
    tokens, nll = trial.totals(np.array([0, 10, 20, 60, 99]))
    for row, text in enumerate(texts):
        parts = [text[..., :9], text[..., 9:19], text[..., 19:], text[..., 60:]]
        np.testing.assert_array_equal(tokens[row], [part.size for part in parts])
        np.testing.assert_allclose(nll[row], [part.sum() for part in parts])


@pytest.mark.parametrize("length", [2, 3, 2001, 1_000_000, 200_000_000, 10**9])
def test_streams_of_any_length_are_read(tmp_path, length):
    trial = load_trial(write_stream_trial(tmp_path / "long", [long_sums(length, seed) for seed in range(2)]))
    assert (trial.length, trial.streams, trial.tokens) == (length, 2, 2 * (length - 1))


@pytest.mark.parametrize("name", ["config.json", "results.json", "stats.npz"])
@pytest.mark.parametrize("content", [None, b"", b"[1, 2"])
def test_a_file_of_a_stream_that_is_missing_or_damaged(stream_dir, name, content):
    (stream_dir / name).unlink()
    if content is not None:
        (stream_dir / name).write_bytes(content)
    with pytest.raises(UserError, match=f"(has no {name}: the trial is not finished|{name} cannot be read .* damaged)"):
        load_trial(stream_dir)


def test_no_flipped_byte_of_a_stream_gives_a_traceback(stream_dir):
    assert refusals_of_flipped_bytes(stream_dir / "stats.npz", lambda: load_trial(stream_dir), step=997) > 20


def changed(array, place, value):
    array = array.copy()
    array[place] = value
    return array


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("log_sum", lambda array: None, "lacks the array 'log_sum': it is damaged, or no trial's stats.npz"),
        ("linear_edges", lambda array: None, "lacks the array 'linear_edges'"),
        ("linear_sum", lambda array: changed(array, (0, 3), np.nan), "not finite"),
        ("log_sum_squares", lambda array: changed(array, (2, 0), np.inf), "not finite"),
        ("linear_edges", lambda array: array + 1, "do not fit"),
        ("linear_edges", lambda array: array.astype(float), "do not fit"),
        ("linear_edges", lambda array: array[None], "do not fit"),
        ("linear_edges", lambda array: array[:1], "do not fit"),
        ("log_edges", lambda array: changed(array, 4, array[3]), "do not fit"),
        ("log_edges", lambda array: array[:-1], "do not fit"),
        ("log_count", lambda array: changed(array, (1, 5), 0), "do not fit"),
        ("linear_count", lambda array: array[:0], "do not fit"),
        ("linear_count", lambda array: array[0], "do not fit"),
        ("linear_sum", lambda array: array[:2], "do not fit"),
        ("linear_sum_squares", lambda array: array[:, 1:], "do not fit"),
    ],
)
def test_sums_of_another_kind(stream_dir, name, change, message):
    arrays = dict(load_trial(stream_dir).arrays)
    arrays[name] = change(arrays[name])
    np.savez(stream_dir / "stats.npz", **{key: array for key, array in arrays.items() if array is not None})
    with pytest.raises(UserError, match=message):
        load_trial(stream_dir)


@pytest.mark.parametrize("length, streams, fits", [(3000, 3, True), (500, 3, False), (3000, 2, False)])
def test_two_kinds_of_buckets_must_be_of_the_same_streams(tmp_path, stream_dir, length, streams, fits):
    other = load_trial(write_stream_trial(tmp_path / "other", [token_sums(np.ones(length - 1))] * streams)).arrays
    replaced = {name: array for name, array in other.items() if name.startswith("log")}
    np.savez(stream_dir / "stats.npz", **(load_trial(stream_dir).arrays | replaced))
    if fits:
        load_trial(stream_dir)
    else:
        with pytest.raises(UserError, match="do not fit"):
            load_trial(stream_dir)


@pytest.mark.parametrize("first", [0, 1])
def test_documents_and_streams_are_not_set_side_by_side(log_dir, stream_dir, first):
    paths = [str(log_dir), str(stream_dir)]
    message = "vanilla counts positions within documents and .*stream within a stream of many: give trials of one kind"
    with pytest.raises(UserError, match=message):
        load_trials([paths[first], paths[1 - first]])


def test_a_streams_pretraining_length_is_marked_within_reach(tmp_path):
    trials = [load_trial(write_stream_trial(tmp_path / str(n), [long_sums(n, 0)])) for n in (8192, 8193)]
    assert lengths_to_mark(trials[:1]) == [] and lengths_to_mark(trials) == [8192]
