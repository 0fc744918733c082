"""The picture of NLL, of documents and of streams: curves, bands, marks, axes and ticks."""

from itertools import pairwise

import numpy as np
import pytest

from tests.utils.trials.trial_files import write_trial
from tests.visualization.nll_files import documents, stream_trial
from tests.visualization.pictures import legend_labels
from utils.trials.nll_trials import load_trial
from visualization.drawing import nll
from visualization.drawing.curves import position_curve
from visualization.drawing.stream_curves import stream_curve
from visualization.drawing.style import paper_style, save_figure


def test_the_curves_are_those_of_the_arrays(nll_trials):
    figure = nll.draw(nll_trials, smoothing=9)
    upper, lower = figure.axes
    for index, trial in enumerate(nll_trials):
        curve = position_curve(trial.arrays, smoothing=9)
        np.testing.assert_array_equal(upper.lines[index].get_data(), [curve.position, curve.mean])
        np.testing.assert_array_equal(lower.lines[index].get_data(), [curve.position, curve.texts])
        assert lower.lines[index].get_ydata()[[0, -1]].tolist() == [3, 2]


@pytest.mark.parametrize(
    "band, spread, words",
    [
        ("sem", "standard_error", "± 1 standard error"),
        ("std", "deviation", "± 1 s.d. over documents"),
    ],
)
def test_the_band_is_what_the_legend_says(nll_trials, band, spread, words):
    figure = nll.draw(nll_trials[:1], smoothing=5, band=band)
    curve = position_curve(nll_trials[0].arrays, smoothing=5)
    corners = figure.axes[0].collections[0].get_paths()[0].vertices
    top = curve.mean + getattr(curve, spread)
    assert corners[:, 1].max() == pytest.approx(top.max())
    assert words in legend_labels(figure)


def test_no_band_where_it_is_not_wanted_or_there_is_one_document(nll_trials, tmp_path):
    one = load_trial(write_trial(tmp_path / "one", documents([40]), pretraining_length=None))
    assert legend_labels(nll.draw([one])) == ["one"]
    assert legend_labels(nll.draw(nll_trials, band="none")) == ["vanilla", "lambda", "pre-training length 8"]


def test_the_pretraining_length_is_marked_in_both_panels(nll_trials):
    for wanted, override in ((8, None), (25, 25)):
        figure = nll.draw(nll_trials, pretraining_length=override)
        for axes in figure.axes:
            assert axes.lines[-1].get_xdata() == [wanted, wanted]
        assert f"pre-training length {wanted}" in legend_labels(figure)
    figure = nll.draw(nll_trials, pretraining_length=1000)
    assert len(figure.axes[0].lines) == 2 and not any("length" in label for label in legend_labels(figure))


def test_axes_scales_limits_and_units(nll_trials):
    figure = nll.draw(nll_trials, scale="log", ylim=(2.0, 7.0))
    upper, lower = figure.axes
    assert upper.get_xscale() == "log" and upper.get_ylim() == (2.0, 7.0)
    assert (upper.get_ylabel(), lower.get_xlabel()) == ("NLL (nats per token)", "position (tokens)")
    assert nll.draw(nll_trials, band="std").axes[0].get_ylim()[0] >= 0


def test_any_label_is_shown_and_the_legend_covers_nothing(tmp_path):
    labels = [
        "_hidden",
        "5 $ or 6 $ \\frac",
        *(f"trial {index}" for index in range(6)),
        "a label that is longer than a column is wide, so that it must be broken",
    ]
    trials = [
        load_trial(write_trial(tmp_path / str(index), documents([9, 9], index)), label)
        for index, label in enumerate(labels)
    ]
    with paper_style():
        figure = nll.draw(trials, title="$5 of title \\frac")
        save_figure(figure, [tmp_path / "nll.png"])
    assert [label.replace("\n", " ") for label in legend_labels(figure)[: len(labels)]] == labels
    legend = figure.legends[0].get_window_extent()
    assert legend.x0 >= 0 and legend.x1 <= figure.bbox.x1 and legend.y0 >= 0
    assert not any(legend.overlaps(axes.get_tightbbox()) for axes in figure.axes)


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_few_positions_can_be_seen(tmp_path, length, scale):
    trial = load_trial(write_trial(tmp_path / "short", documents([length])))
    line = nll.draw([trial], scale=scale).axes[0].lines[0]
    assert len(line.get_xdata()) == length
    assert (line.get_marker() == "o") == (length == 1)


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_a_million_positions_make_a_small_file(tmp_path, scale):
    trial = load_trial(write_trial(tmp_path / "long", documents([10**6 - 1] * 2), pretraining_length=8192))
    with paper_style():
        save_figure(nll.draw([trial], scale=scale), [tmp_path / "nll.svg"])
    assert (tmp_path / "nll.svg").stat().st_size < 300_000


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_the_curves_of_streams_are_those_of_their_buckets(tmp_path, scale):
    trials = [stream_trial(tmp_path / str(streams), 100_000, streams) for streams in (1, 3)]
    axes = nll.draw(trials, smoothing=700, scale=scale).axes
    assert len(axes) == 1 and axes[0].get_xscale() == scale
    assert (axes[0].get_ylabel(), axes[0].get_xlabel()) == ("NLL (nats per token)", "position in the stream (tokens)")
    for line, trial in zip(axes[0].lines, trials):
        curve = stream_curve(trial.arrays, smoothing=700, scale=scale)
        np.testing.assert_array_equal(line.get_data(), [curve.position, curve.mean])
    assert axes[0].lines[2].get_xdata() == [8192, 8192]


@pytest.mark.parametrize(
    "streams, band, spread, words",
    [
        ([1], "sem", "standard_error", "± 1 standard error over tokens"),
        ([4], "sem", "standard_error", "± 1 standard error over streams"),
        ([4, 1], "sem", "standard_error", "± 1 standard error over streams or tokens"),
        ([4, 1], "std", "deviation", "± 1 s.d. over streams"),
        ([1], "std", None, None),
        ([4], "none", None, None),
    ],
)
def test_the_band_of_streams_is_what_the_legend_says(tmp_path, streams, band, spread, words):
    trials = [stream_trial(tmp_path / str(number), 50_000, number) for number in streams]
    figure = nll.draw(trials, band=band)
    names = [str(number) for number in streams]
    assert legend_labels(figure) == [*names, *([words] if words else []), "pre-training length 8,192"]
    if words:
        curve = stream_curve(trials[0].arrays, smoothing=512, scale="log")
        corners = figure.axes[0].collections[0].get_paths()[0].vertices
        assert corners[:, 1].max() == pytest.approx((curve.mean + getattr(curve, spread)).max())


def test_a_kind_of_trial_has_its_own_axis_and_smoothing(tmp_path, nll_trials):
    streams = [stream_trial(tmp_path / str(length), length) for length in (10_000, 1_000_000)]
    assert nll.draw(streams).axes[0].get_xscale() == "log"
    assert nll.draw(nll_trials).axes[0].get_xscale() == "linear"
    for scale, short, long in (("log", 512, 512), ("linear", 512, 10_000)):
        for chosen, width in ((streams[:1], short), (streams, long)):
            curves = nll.make_curves(chosen, None, scale)
            expected = stream_curve(chosen[-1].arrays, smoothing=width, scale=scale)
            np.testing.assert_array_equal(curves[-1].mean, expected.mean)


@pytest.mark.parametrize(
    "length, scale, ticks",
    [
        (3000, "linear", ["0", "1K", "2K", "3K"]),
        (1_000_000, "linear", ["0", "200K", "400K", "600K", "800K", "1M"]),
        (200_000_000, "linear", ["0", "50M", "100M", "150M", "200M"]),
        (200_000_000, "log", [f"$\\mathdefault{{10^{{{power}}}}}$" for power in range(1, 9)]),
        (1_000_000_000, "log", [f"$\\mathdefault{{10^{{{power}}}}}$" for power in range(1, 10)]),
    ],
)
def test_ticks_of_streams_can_be_read(tmp_path, length, scale, ticks):
    trials = [stream_trial(tmp_path / str(streams), length, streams) for streams in (1, 4)]
    with paper_style():
        figure = nll.draw(trials, scale=scale)
        axis = figure.axes[0].xaxis
        assert drawn_ticks(axis) == ticks
        boxes = [label.get_window_extent() for label in axis.get_majorticklabels()[1:-1]]
    assert not any(left.overlaps(right) for left, right in pairwise(boxes))
    assert axis.get_view_interval()[1] == length


@pytest.mark.parametrize("length", [2, 3, 40])
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_a_stream_of_few_positions_can_be_seen(tmp_path, length, scale):
    with paper_style():
        figure = nll.draw([stream_trial(tmp_path / "short", length)], scale=scale)
        save_figure(figure, [tmp_path / "nll.svg"])
    line = figure.axes[0].lines[0]
    assert (line.get_marker() == "o") == (len(line.get_xdata()) == 1)
    low, high = figure.axes[0].get_xlim()
    assert low < line.get_xdata()[0] < high


def drawn_ticks(axis):
    axis.figure.canvas.draw()
    low, high = sorted(axis.get_view_interval())
    places = zip(axis.get_majorticklocs(), axis.get_majorticklabels())
    return [label.get_text() for place, label in places if low <= place <= high]


@pytest.mark.parametrize("top", [4.5, 5.5, 6.5])
def test_the_name_of_the_axis_has_room_whatever_its_ticks(tmp_path, top):
    """Ticks that followed from the height would have other words in each pass of the layout: "5", then "5.5"."""
    trials = [stream_trial(tmp_path / str(place), 2000) for place in range(4)]
    with paper_style():
        figure = nll.draw(trials, ylim=(2.2, top))
        figure.draw_without_rendering()
        assert figure.axes[0].yaxis.get_tightbbox().x0 >= 0
