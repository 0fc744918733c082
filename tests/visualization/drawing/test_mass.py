"""The picture of the mass: its shares add up, and their names."""

import pytest

from tests.visualization.pictures import legend_labels
from visualization.drawing import mass
from visualization.drawing.diagnosis import HeadChoice


def test_shares_of_the_mass_add_up(diagnoses):
    for choice, bars in ((HeadChoice(), 5), (HeadChoice((2,)), 3), (HeadChoice((0, 4), (1,)), 2)):
        growing, final = mass.draw(diagnoses[:1], choice=choice).axes
        tops = [patch.get_y() + patch.get_height() for patch in final.patches]
        assert len(tops) == 3 * bars and tops[-bars:] == pytest.approx([1] * bars)
        areas = [area.get_paths()[0].vertices for area in growing.collections]
        assert len(areas) == 3 and areas[-1][:, 1].max() == pytest.approx(1)
    heads = diagnoses[0].arrays["mass_first_mean"][2, :, -1]
    final = mass.draw(diagnoses[:1], choice=HeadChoice((2,))).axes[1]
    assert [patch.get_height() for patch in final.patches[:3]] == pytest.approx(heads)
    assert final.get_xlabel() == "head of layer 2"


def test_sizes_of_first_and_window_are_told_where_they_are_the_same(diagnoses):
    assert legend_labels(mass.draw(diagnoses[:1]))[:3] == ["first 4 tokens", "window of 128", "middle"]
    assert legend_labels(mass.draw(diagnoses))[:3] == ["first tokens", "window", "middle"]
