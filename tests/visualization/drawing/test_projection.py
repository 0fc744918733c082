"""The picture of hidden states: which tokens and layers are drawn."""

import numpy as np

from tests.visualization.diagnosis_files import write_diagnosis
from tests.visualization.pictures import legend_labels
from visualization.drawing import projection
from visualization.drawing.diagnosis import load_diagnoses


def test_first_tokens_are_triangles_and_later_ones_dots(diagnoses):
    figure = projection.draw(diagnoses[:1], layers=[2, 2])
    panel, bar = figure.axes
    later, first = panel.collections
    coordinates, position = diagnoses[0].arrays["hidden_coordinates"][2], diagnoses[0].arrays["hidden_position"]
    np.testing.assert_allclose(first.get_offsets(), coordinates[position < 4, :2])
    np.testing.assert_array_equal(later.get_array(), position[position >= 4])
    assert panel.get_title() == "Layer 2" and bar.get_ylabel() == "position (tokens)"
    assert panel.get_xlabel() == f"PC 1 ({diagnoses[0].arrays['explained_variance_ratio'][2, 0]:.0%})"
    assert legend_labels(figure) == ["first 4 tokens"]


def test_an_odd_number_of_layers_of_one_trial_is_drawn(diagnoses):
    figure = projection.draw(diagnoses[:1], layers=[0, 1, 3])
    assert [axes.get_title() for axes in figure.axes] == ["Layer 0", "Layer 1", "Layer 3", ""]


def test_layers_are_spread_and_each_trial_has_a_row(diagnoses):
    assert projection.spread_layers(diagnoses[0]) == [0, 1, 3, 4]
    titles = [axes.get_title() for axes in projection.draw(diagnoses, layers=[0, 4]).axes[:-1]]
    assert titles == ["vanilla, layer 0", "vanilla, layer 4", "lambda, layer 0", "lambda, layer 4"]


def test_one_point_far_off_does_not_make_a_line_of_the_others(tmp_path):
    folder = write_diagnosis(tmp_path / "far")
    with np.load(folder / "stats.npz") as file:
        arrays = dict(file)
    coordinates = arrays["hidden_coordinates"]
    spread = np.abs(coordinates).max()
    coordinates[:, 0, 0] = 400 * spread
    arrays["explained_variance_ratio"][:, 1] = 0.0021
    np.savez(folder / "stats.npz", **arrays)
    panel = projection.draw(load_diagnoses([str(folder)]), layers=[2]).axes[0]
    assert panel.get_xlim()[1] < 2 * spread
    (inset,) = panel.child_axes
    assert inset.get_xlim()[1] > 400 * spread
    assert panel.get_ylabel() == "PC 2 (0.21%)"


def test_without_one_there_is_no_inset(tmp_path):
    panel = projection.draw(load_diagnoses([str(write_diagnosis(tmp_path / "near"))]), layers=[2]).axes[0]
    assert not panel.child_axes
