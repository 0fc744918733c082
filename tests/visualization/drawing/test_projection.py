"""The picture of hidden states: which tokens and layers are drawn."""

import numpy as np

from tests.visualization.pictures import legend_labels
from visualization.drawing import projection


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
