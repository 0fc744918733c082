"""The picture of scores by length."""

import pytest

from tests.scripts.example_trials import write_task_trial
from utils.bootstrap import proportion_interval
from visualization.drawing import scores
from visualization.drawing.methods import group_starts, load_methods


def test_scores_and_their_errors_are_those_of_the_examples(task_dirs):
    methods = load_methods(task_dirs)
    axes = scores.draw(methods).axes[0]
    vanilla, infinite = axes.containers
    assert vanilla.lines[0].get_ydata().tolist() == pytest.approx([1, 1, 1 / 3])
    assert infinite.lines[0].get_ydata().tolist() == [1, 1, 1]
    low, high = vanilla.lines[2][0].get_segments()[2][:, 1]
    assert (low, high) == pytest.approx(proportion_interval([1.0, 0.0, 0.0] * 2)) and high - low > 0.1
    low, high = infinite.lines[2][0].get_segments()[2][:, 1]
    assert low < 0.7 and high == 1, "all of them right is no certainty"
    assert axes.get_xscale() == "log" and axes.get_title() == "Score by length: tiny, passkey_retrieval"


def test_what_failed_counts_for_nothing(tmp_path):
    folder = write_task_trial(tmp_path / "some", [1.0, None, 0.0])
    (method,) = load_methods([str(folder)])
    there, score, _ = scores.scores_by_length(method, group_starts([method]))
    assert there.tolist() == [0] and score.tolist() == [0.5]
