"""The look that all figures share."""

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure

from visualization.drawing.style import (
    COLUMN_WIDTH,
    TEXT_WIDTH,
    add_heading,
    paper_style,
    set_length_ticks,
    set_panel_title,
    set_plain_log_ticks,
    short_number,
)


@pytest.mark.parametrize("columns", [1, 2, 4])
def test_long_titles_stay_within_their_panel_and_the_picture(columns):
    with paper_style():
        figure = Figure(figsize=(COLUMN_WIDTH if columns == 1 else TEXT_WIDTH, 2), layout="constrained")
        panels = figure.subplots(1, columns, squeeze=False)[0]
        for axes in panels:
            set_panel_title(axes, "Meta-Llama-3.1-8B-Instruct, Λ-attention with a window of 4,096, mean over all heads")
        add_heading(figure, "A title of many words, " * 5, "a_model, a_text")
        figure.draw_without_rendering()
        boxes = [axes.title.get_window_extent() for axes in panels]
        assert all(one.x1 <= other.x0 for one, other in itertools.pairwise(boxes))
        heading = figure._suptitle.get_window_extent()
        assert heading.x0 >= 0 and heading.x1 <= figure.bbox.x1 and heading.y1 <= figure.bbox.y1
        assert figure.get_suptitle().endswith("\na_model, a_text")
        assert all(heading.y0 >= box.y1 and box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes)


@pytest.mark.parametrize(
    "lengths", [[2048, 4096, 8192, 12288, 16384], [1000, 1100, 1200, 1300], [64, 70, 131072], np.arange(20, 32) * 1000]
)
def test_every_length_has_a_tick_and_no_labels_overlap(lengths):
    with paper_style():
        figure = Figure(figsize=(COLUMN_WIDTH, 2), layout="constrained")
        axes = figure.subplots()
        axes.plot(lengths, np.ones(len(lengths)))
        axes.set_xscale("log")
        set_length_ticks(axes.xaxis, lengths, 2.5)
        figure.draw_without_rendering()
        assert axes.get_xticks().tolist() == list(lengths) and not len(axes.get_xticks(minor=True))
        told = [label for label in axes.get_xticklabels() if label.get_text()]
        assert told[0].get_text() == f"{lengths[0]:,}" and len(told) > len(lengths) / 2
        if told[0].get_rotation():
            gaps = np.diff([label.get_window_extent().x1 for label in told])
            assert (gaps > figure.dpi * told[0].get_fontsize() / 72).all()
        else:
            boxes = [label.get_window_extent() for label in told]
            assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))


@pytest.mark.parametrize("highest", [1.04, 1.9, 4.0, 90.0])
def test_a_short_logarithmic_axis_has_ticks_enough(highest):
    axes = Figure().subplots()
    axes.set(yscale="log", ylim=(0.98, highest))
    set_plain_log_ticks(axes.yaxis)
    assert sum(0.98 <= tick <= highest for tick in axes.get_yticks()) >= 2


def test_short_numbers():
    numbers = [0, 512, 1000, 1500, 250_000, 2_000_000, 10**9, 2.5e9]
    assert [short_number(number) for number in numbers] == ["0", "512", "1K", "1.5K", "250K", "2M", "1B", "2.5B"]
