"""The picture of scores by length and depth."""

from itertools import combinations

import numpy as np
import pytest

from tests.scripts.example_trials import task_sample, write_lines, write_task_trial
from tests.visualization.example_files import write_lengths
from tests.visualization.pictures import assert_nothing_overlaps
from utils.errors import UserError
from visualization.drawing import heatmap
from visualization.drawing.lengths import LengthGroups
from visualization.drawing.methods import load_methods
from visualization.drawing.style import paper_style


def test_cells_of_the_heatmap_are_mean_scores(task_dirs):
    methods = load_methods(task_dirs)
    rows = heatmap.depth_rows(methods)
    assert rows.names == ["0%", "50%", "100%"]
    cells = heatmap.scores_by_cell(methods[0], LengthGroups.over(methods), rows)
    np.testing.assert_array_equal(cells, [[1, 1, 1], [1, 1, 0], [1, 1, 0]])
    figure = heatmap.draw(methods)
    panel = figure.axes[0]
    np.testing.assert_array_equal(panel.collections[0].get_array(), cells)
    assert panel.get_ylim()[0] > panel.get_ylim()[1]  # the beginning of a prompt is at the top
    assert [text.get_text() for text in panel.texts] == [f"{score:.2f}" for score in cells.flat]
    assert panel.lines[0].get_xdata() == [1.5, 1.5]  # 8,192 tokens are between 4,000 and 16,000


def test_cells_of_unlike_numbers_say_theirs(tmp_path):
    """The caption alone says it where all have one, or where there is no room in them."""
    one, two = (
        write_lengths(tmp_path / str(size), [size], repeats=size // 1000, max_length=size) for size in (2000, 4000)
    )
    figure = heatmap.draw(load_methods([str(one), str(two)]))
    told = [text.get_text() for text in figure.axes[0].texts]
    assert told == ["1.00", "n 2", "1.00", "n 4"] * 3 and figure.get_suptitle().endswith("; n: examples of a cell")
    figure = heatmap.draw(load_methods([str(one)]))
    assert len(figure.axes[0].texts) == 3 and figure.get_suptitle().endswith("; 2 examples a cell")
    many = write_lengths(tmp_path / "many", [*range(1000, 9001, 1000), 9000])
    figure = heatmap.draw(load_methods([str(many)]))
    assert not figure.axes[0].texts and figure.get_suptitle().endswith("; 1 to 2 examples a cell")


@pytest.mark.parametrize("depths", [np.linspace(0, 1, 11).tolist(), np.random.default_rng(0).random(60).tolist()])
def test_words_of_cells_and_rows_are_apart(task_dirs, tmp_path, depths):
    folders = [
        str(write_lengths(tmp_path / f"{name}{size}", [size], repeats=size // 1000, depths=depths, max_length=size))
        for name in "abcd"
        for size in (2000, 4000, 16000)
    ]
    with paper_style():
        figure = heatmap.draw(load_methods(folders, [name for name in "abcd" for _ in range(3)]))
        figure.draw_without_rendering()
        assert_nothing_overlaps(figure)
        panels = figure.axes[:4]
        boxes = [text.get_window_extent() for axes in panels for text in axes.texts]
        assert not any(one.overlaps(other.padded(-1)) for one, other in combinations(boxes, 2))
        assert [axes.get_ylabel() != "" for axes in panels] == [True, False, False, True]
        assert not any(
            label.get_text() for axes in panels[1:3] for label in axes.get_yticklabels() if label.get_visible()
        )


def test_a_pretraining_length_outside_of_the_columns_has_no_mark(task_dirs):
    for length, marks in ((1999, 0), (2000, 1), (8192, 1), (15999, 1), (16000, 0)):
        panel = heatmap.draw(load_methods(task_dirs), pretraining_length=length).axes[0]
        assert len(panel.lines) == marks, length


def test_random_depths_share_rows_and_missing_cells_stay_empty(tmp_path):
    depths = np.linspace(0, 0.49, 40).tolist()
    (method,) = load_methods([str(write_lengths(tmp_path / "random", [500], depths=depths))])
    rows = heatmap.depth_rows([method])
    assert len(rows.names) == 10 and rows.names[0] == "0%–10%"
    cells = heatmap.scores_by_cell(method, LengthGroups.over([method]), rows)
    assert np.isfinite(cells[:5]).all() and np.isnan(cells[5:]).all()
    panel = heatmap.draw([method]).axes[0]
    assert panel.collections[0].get_array().mask.sum() == 5 and len(panel.texts) == 5


def test_a_task_without_depths_has_no_heatmap(tmp_path):
    folder = write_task_trial(tmp_path / "qasper", [1.0, 0.0])
    write_lines(folder / "samples.jsonl", [task_sample(index, 1.0, depth=None) for index in range(2)])
    with pytest.raises(UserError, match="no example of .*qasper has a depth"):
        heatmap.draw(load_methods([str(folder)]))
