"""Reading diagnoses: which heads are chosen, and one sentence for each file that cannot be drawn."""

import json

import numpy as np
import pytest

from tests.utils.trials.trial_files import refusals_of_flipped_bytes, token_sums, write_stream_trial, write_trial
from tests.visualization.diagnosis_files import write_diagnosis
from utils.errors import UserError
from utils.trials.finished import lengths_to_mark
from utils.trials.nll_trials import load_trial
from visualization.drawing.diagnosis import Diagnosis, HeadChoice, load_diagnoses
from visualization.drawing.head_curves import HeadCurve, in_short_runs


@pytest.fixture
def log_dir(tmp_path):
    return write_diagnosis(tmp_path / "vanilla", layers=(0, 2, 4))


def load(log_dir) -> Diagnosis:
    return load_diagnoses([str(log_dir)])[0]


def test_a_diagnosis_is_read_whole(log_dir):
    trial = load(log_dir)
    assert (trial.label, trial.length, trial.layers, trial.heads, trial.documents) == ("vanilla", 512, [0, 2, 4], 3, 2)
    assert trial.pretraining_length == 256 and lengths_to_mark([trial]) == [256]
    assert trial.distances[0] == 7.5 and trial.distances[-1] == 503.5
    assert trial.first_distance == 512 - 16 - 4 + 1


def test_a_text_shorter_than_the_plan_ends_where_it_ends(log_dir):
    arrays = dict(load(log_dir).arrays)
    arrays["attended"][:, arrays["positions"] >= 255] = 0
    np.savez(log_dir / "stats.npz", **arrays)
    assert load(log_dir).length == 255 - 31  # the position before, of those that are sampled


def test_the_chosen_heads_are_those_of_their_numbers(log_dir):
    trial = load(log_dir)
    values = trial.arrays["entropy_mean"]
    np.testing.assert_array_equal(trial.of_heads(values), values)
    chosen = trial.of_heads(values, HeadChoice.of([4, 0], [2]))
    np.testing.assert_array_equal(chosen, values[[2, 0]][:, [2]])
    assert trial.number_of_heads(HeadChoice.of(None, [0, 1])) == 6


@pytest.mark.parametrize(
    "layers, heads, words",
    [
        (None, None, "all heads"),
        ([3], None, "all heads of layer 3"),
        (None, [0, 1, 2], "heads 0 to 2 of all layers"),
        ([3, 5, 9], [2, 2], "head 2 of layers 3, 5 and 9"),
    ],
)
def test_a_choice_is_told_in_words(layers, heads, words):
    assert str(HeadChoice.of(layers, heads)) == words


@pytest.mark.parametrize(
    "layers, heads, message",
    [([1], None, "--layer 1: .*vanilla measured layers 0, 2 and 4"), (None, [3], "--head 3: .* measured heads 0 to 2")],
)
def test_heads_that_were_not_measured(log_dir, layers, heads, message):
    trial = load(log_dir)
    with pytest.raises(UserError, match=message):
        trial.of_heads(trial.arrays["entropy_mean"], HeadChoice.of(layers, heads))


def test_several_heads_are_a_median_and_a_range_and_one_its_documents():
    mean = np.arange(22.0).reshape(1, 11, 2)
    mean[..., 1] = np.nan
    curve = HeadCurve.of(np.arange(2), mean, np.ones_like(mean))
    assert (curve.low[0], curve.middle[0], curve.high[0]) == (2, 10, 18) and np.isnan(curve.middle[1])
    one = HeadCurve.of(np.arange(2), mean[:, :1], np.full((1, 1, 2), 3.0))
    assert (one.low[0], one.middle[0], one.high[0]) == (-3, 0, 3)


def test_short_runs():
    values = np.array([1, np.nan, 1, 1, 1, 1, 1, np.nan, 1, 1, 1, 1])
    assert np.flatnonzero(in_short_runs(values)).tolist() == [0, 8, 9, 10, 11]
    assert not in_short_runs(np.array([np.nan])).any()


@pytest.mark.parametrize("name", ["config.json", "results.json", "stats.npz"])
@pytest.mark.parametrize("content", [None, b"", b"[1, 2"])
def test_a_file_that_is_missing_or_damaged(log_dir, name, content):
    (log_dir / name).unlink()
    if content is not None:
        (log_dir / name).write_bytes(content)
    with pytest.raises(UserError, match=f"(has no {name}: the trial is not finished|{name} cannot be read .* damaged)"):
        load(log_dir)


def test_no_flipped_byte_gives_a_traceback(log_dir):
    assert refusals_of_flipped_bytes(log_dir / "stats.npz", lambda: load(log_dir), step=1997) > 10


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("entropy_mean", lambda array: None, "lacks the array 'entropy_mean'"),
        ("layers", lambda array: array[:2], "do not fit together"),
        ("distance_edges", lambda array: array[:-1], "do not fit together"),
        ("entropy_mean", lambda array: array[0], "do not fit together"),
        ("hidden_coordinates", lambda array: array[:, :, 0], "do not fit together"),
        ("logit_max_deviation", lambda array: array[:, 1:], "do not fit together"),
        ("hidden_coordinates", lambda array: array * np.nan, "not finite"),
        ("logit_max_mean", lambda array: array + np.inf, "not finite"),
        ("attended", lambda array: array * 0, "holds no measured document"),
        ("entropy_mean", lambda array: array * np.nan, "holds no measured document"),
    ],
)
def test_arrays_of_another_kind(log_dir, name, change, message):
    arrays = dict(load(log_dir).arrays)
    arrays[name] = change(arrays[name])
    np.savez(log_dir / "stats.npz", **{key: array for key, array in arrays.items() if array is not None})
    with pytest.raises(UserError, match=message):
        load(log_dir)


@pytest.mark.parametrize("kind", ["documents", "stream"])
def test_a_trial_of_perplexity_is_no_diagnosis_nor_the_other_way_round(tmp_path, log_dir, kind):
    if kind == "stream":
        other = write_stream_trial(tmp_path / kind, [token_sums(np.ones(99))])
    else:
        other = write_trial(tmp_path / kind, [np.ones(9)])
    with pytest.raises(UserError, match="measures neither logits nor entropy: give trials of diagnose"):
        load(other)
    with pytest.raises(UserError, match="'diagnose', which measures no NLL"):
        load_trial(log_dir)


def test_a_stream_that_calls_itself_a_diagnosis(tmp_path):
    folder = write_stream_trial(tmp_path / "stream", [token_sums(np.ones(99))])
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"script": "diagnose"}))
    with pytest.raises(UserError, match="lacks the array 'layers'"):
        load(folder)
