"""The picture of scores by length and depth."""

import numpy as np
import pytest

from tests.scripts.example_trials import task_sample, write_lines, write_task_trial
from tests.visualization.example_files import write_lengths
from utils.errors import UserError
from visualization.drawing import heatmap
from visualization.drawing.lengths import LengthGroups
from visualization.drawing.methods import load_methods


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
