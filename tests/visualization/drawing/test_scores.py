"""The picture of scores by length."""

import pytest

from tests.scripts.example_trials import write_task_trial
from tests.visualization.example_files import write_lengths
from tests.visualization.pictures import legend_labels
from utils.bootstrap import proportion_interval
from visualization.drawing import costs, scores
from visualization.drawing.lengths import LengthGroups
from visualization.drawing.methods import load_methods


def test_scores_and_their_errors_are_those_of_the_examples(task_dirs):
    methods = load_methods(task_dirs)
    figure = scores.draw(methods)
    axes = figure.axes[0]
    vanilla, infinite = axes.containers
    assert vanilla.lines[0].get_ydata().tolist() == pytest.approx([1, 1, 1 / 3])
    assert infinite.lines[0].get_ydata().tolist() == [1, 1, 1]
    low, high = vanilla.lines[2][0].get_segments()[2][:, 1]
    assert (low, high) == pytest.approx(proportion_interval([1.0, 0.0, 0.0] * 2)) and high - low > 0.1
    low, high = infinite.lines[2][0].get_segments()[2][:, 1]
    assert low < 0.7 and high == 1, "all of them right is no certainty"
    assert axes.get_xscale() == "log" and axes.get_ylabel() == "accuracy\n(95 % interval)"
    assert figure.get_suptitle() == "tiny, passkey_retrieval; 6 examples a point"


def test_every_length_that_was_run_has_a_tick_that_says_what_was_requested(task_dirs, tmp_path):
    axes = scores.draw(load_methods(task_dirs)).axes[0]
    assert axes.get_xticks().tolist() == [2000, 4000, 16000] and axes.get_xlabel() == "requested length (tokens)"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2,000", "4,000", "16,000"]
    assert axes.containers[0].lines[0].get_xdata().tolist() == [2000, 4000, 16000]
    mixed = write_lengths(tmp_path / "mixed", [900, 2000, 5000], max_length=8000)
    axes = scores.draw(load_methods([str(mixed)])).axes[0]
    assert axes.get_xticks().tolist() == [900, 2000, 5000] and axes.get_xlabel() == "prompt length (tokens)"


def test_a_pretraining_length_outside_of_the_points_has_no_mark(task_dirs):
    methods = load_methods(task_dirs)
    for picture in (scores, costs):
        for length, marked in ((1999, False), (8192, True), (16000, False)):
            figure = picture.draw(methods, pretraining_length=length)
            assert (legend_labels(figure)[-1] == f"pre-training length {length:,}") == marked
            assert marked or figure.axes[0].get_xlim()[0] > 1700


def test_what_failed_counts_for_nothing(tmp_path):
    folder = write_task_trial(tmp_path / "some", [1.0, None, 0.0])
    (method,) = load_methods([str(folder)])
    points = scores.scores_by_length(method, LengthGroups.over([method]))
    assert points.groups.tolist() == [0] and points.scores.tolist() == [0.5] and points.examples.tolist() == [2]
