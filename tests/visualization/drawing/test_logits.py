"""The picture of logits: its panels, the head that grows, and the heads that are chosen."""

import numpy as np
import pytest

from tests.visualization.pictures import legend_labels
from visualization.drawing import logits
from visualization.drawing.diagnosis import HeadChoice

ONE_HEAD = HeadChoice((1,), (1,))


def test_logits_of_all_heads_and_of_the_one_that_grows(diagnoses):
    figure = logits.draw(diagnoses)
    every, one = figure.axes
    for index, trial in enumerate(diagnoses):
        largest = trial.arrays["logit_max_mean"]
        line = every.lines[2 * index]
        np.testing.assert_array_equal(line.get_xdata(), trial.distances)
        np.testing.assert_allclose(line.get_ydata(), np.median(largest.reshape(-1, largest.shape[-1]), axis=0))
        np.testing.assert_array_equal(one.lines[2 * index].get_ydata(), largest[1, 1])
    assert one.get_title() == "Grows most: head 1 of layer 1"
    dots = every.lines[3]  # of Λ-attention: the first tokens, far away
    assert dots.get_marker() == "o" and dots.get_xdata()[-1] == diagnoses[1].distances[-1]
    assert legend_labels(figure)[:4] == ["vanilla", "lambda", "10–90% of heads", "± 1 s.d. (one head)"]
    assert legend_labels(figure)[-1] == "pre-training length 256" and every.lines[-1].get_xdata() == [256, 256]


def test_the_first_tokens_do_not_make_a_head_grow(diagnoses):
    trial = diagnoses[0]
    trial.arrays["logit_max_mean"][4, 0, -1] += 100
    assert logits.growing_head(trial, HeadChoice()) == ONE_HEAD
    assert logits.growing_head(trial, HeadChoice((2, 0), None)) != ONE_HEAD
    beyond_every_text = logits.growing_head(trial, HeadChoice(), 10_000)
    assert beyond_every_text == HeadChoice((4,), (0,))


@pytest.mark.parametrize("statistic", ["max", "mean", "bound"])
def test_a_chosen_head_has_one_panel_with_its_documents(diagnoses, statistic):
    figure = logits.draw(diagnoses[:1], choice=ONE_HEAD, statistic=statistic)
    (axes,) = figure.axes
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), diagnoses[0].arrays[f"logit_{statistic}_mean"][1, 1])
    top = (
        diagnoses[0].arrays[f"logit_{statistic}_mean"][1, 1] + diagnoses[0].arrays[f"logit_{statistic}_deviation"][1, 1]
    )
    assert axes.collections[0].get_paths()[0].vertices[:, 1].max() == pytest.approx(np.nanmax(top))
    assert "± 1 s.d. over documents" in legend_labels(figure)
