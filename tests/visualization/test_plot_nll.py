"""The picture: what is drawn, the files it is written to, and bad input."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from tests.utils.trials.trial_files import long_sums, write_stream_trial, write_trial
from utils.errors import UserError
from utils.trials.nll_trials import load_trial
from visualization import plot_nll
from visualization.drawing.curves import position_curve
from visualization.drawing.stream_curves import stream_curve
from visualization.drawing.style import line_look, paper_style, save_figure, short_number

SCRIPT = Path(plot_nll.__file__)


def documents(lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.gamma(1.0, 3.0, length) for length in lengths]


@pytest.fixture
def log_dirs(tmp_path):
    return [
        str(write_trial(tmp_path / name, documents([60, 60, 30], seed)))
        for seed, name in enumerate(["vanilla", "lambda"])
    ]


@pytest.fixture
def trials(log_dirs):
    return [load_trial(log_dir) for log_dir in log_dirs]


def run_in_process(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["plot_nll.py", *map(str, arguments)])
    plot_nll.main()


def legend_labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_script_writes_each_format_without_a_display(log_dirs, tmp_path):
    outputs = [tmp_path / "new" / f"nll.{suffix}" for suffix in ("png", "pdf", "svg")]
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "PYTHONPATH")}
    done = subprocess.run(
        [sys.executable, SCRIPT, *log_dirs, "--labels", "vanilla", "Λ", "--title", "a", "--out", *outputs],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert matplotlib.image.imread(outputs[0]).shape[1] == 1005  # 3.35 inches at 300 dpi
    pdf = outputs[1].read_bytes()
    assert pdf.startswith(b"%PDF-") and pdf.rstrip().endswith(b"%%EOF")
    assert ElementTree.parse(outputs[2]).getroot().tag.endswith("svg")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["nll.pdf", "nll.png", "nll.svg"]


def test_the_curves_are_those_of_the_arrays(trials):
    figure = plot_nll.draw(trials, smoothing=9)
    upper, lower = figure.axes
    for index, trial in enumerate(trials):
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
def test_the_band_is_what_the_legend_says(trials, band, spread, words):
    figure = plot_nll.draw(trials[:1], smoothing=5, band=band)
    curve = position_curve(trials[0].arrays, smoothing=5)
    corners = figure.axes[0].collections[0].get_paths()[0].vertices
    top = curve.mean + getattr(curve, spread)
    assert corners[:, 1].max() == pytest.approx(top.max())
    assert words in legend_labels(figure)


def test_no_band_where_it_is_not_wanted_or_there_is_one_document(trials, tmp_path):
    one = load_trial(write_trial(tmp_path / "one", documents([40]), pretraining_length=None))
    assert legend_labels(plot_nll.draw([one])) == ["one"]
    assert legend_labels(plot_nll.draw(trials, band="none")) == ["vanilla", "lambda", "pre-training length 8"]


def test_the_pretraining_length_is_marked_in_both_panels(trials):
    for wanted, override in ((8, None), (25, 25)):
        figure = plot_nll.draw(trials, pretraining_length=override)
        for axes in figure.axes:
            assert axes.lines[-1].get_xdata() == [wanted, wanted]
        assert f"pre-training length {wanted}" in legend_labels(figure)
    figure = plot_nll.draw(trials, pretraining_length=1000)
    assert len(figure.axes[0].lines) == 2 and not any("length" in label for label in legend_labels(figure))


def test_axes_scales_limits_and_units(trials):
    figure = plot_nll.draw(trials, scale="log", ylim=(2.0, 7.0))
    upper, lower = figure.axes
    assert upper.get_xscale() == "log" and upper.get_ylim() == (2.0, 7.0)
    assert (upper.get_ylabel(), lower.get_xlabel()) == ("NLL (nats per token)", "position (tokens)")
    assert plot_nll.draw(trials, band="std").axes[0].get_ylim()[0] >= 0


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
        figure = plot_nll.draw(trials, title="$5 of title \\frac")
        save_figure(figure, [tmp_path / "nll.png"])
    assert [label.replace("\n", " ") for label in legend_labels(figure)[: len(labels)]] == labels
    legend = figure.legends[0].get_window_extent()
    assert legend.x0 >= 0 and legend.x1 <= figure.bbox.x1 and legend.y0 >= 0
    assert not any(legend.overlaps(axes.get_tightbbox()) for axes in figure.axes)


def test_many_trials_look_different():
    looks = [tuple(line_look(index).values()) for index in range(28)]
    assert len(set(looks)) == 28


@pytest.mark.parametrize("length", [1, 2, 5])
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_few_positions_can_be_seen(tmp_path, length, scale):
    trial = load_trial(write_trial(tmp_path / "short", documents([length])))
    line = plot_nll.draw([trial], scale=scale).axes[0].lines[0]
    assert len(line.get_xdata()) == length
    assert (line.get_marker() == "o") == (length == 1)


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_a_million_positions_make_a_small_file(tmp_path, scale):
    trial = load_trial(write_trial(tmp_path / "long", documents([10**6 - 1] * 2), pretraining_length=8192))
    with paper_style():
        save_figure(plot_nll.draw([trial], scale=scale), [tmp_path / "nll.svg"])
    assert (tmp_path / "nll.svg").stat().st_size < 300_000


def test_the_same_trials_give_the_same_bytes(monkeypatch, log_dirs, tmp_path):
    names = ["a.svg", "b.svg", "a.pdf", "b.pdf"]
    for name in names:
        run_in_process(monkeypatch, *log_dirs, "--out", tmp_path / name)
    content = [(tmp_path / name).read_bytes() for name in names]
    assert content[0] == content[1] and content[2] == content[3]


def test_a_failed_write_leaves_the_old_picture(monkeypatch, log_dirs, tmp_path):
    def disk_full(source, target):
        raise OSError(28, "No space left on device")

    picture = tmp_path / "pictures" / "nll.png"
    picture.parent.mkdir()
    picture.write_bytes(b"old")
    monkeypatch.setattr(os, "replace", disk_full)
    with pytest.raises(UserError, match="nll.png cannot be written: No space left on device"):
        run_in_process(monkeypatch, *log_dirs, "--out", picture)
    assert picture.read_bytes() == b"old"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--out", "nll.gif"], "--out nll.gif: unsupported suffix"),
        (["--out", "nll"], "--out nll: unsupported suffix"),
        (["--out", "nll.png", "--labels", "a"], "--labels: 1 given for 2"),
        (["--out", "nll.png", "--ylim", "6", "3"], "--ylim: give two finite numbers"),
        (["--out", "nll.png", "--ylim", "nan", "3"], "--ylim: give two finite numbers"),
        (["--out", "nll.png", "--ylim", "2", "inf"], "--ylim: give two finite numbers"),
    ],
)
def test_bad_arguments_are_told_in_one_sentence(monkeypatch, log_dirs, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        run_in_process(monkeypatch, *log_dirs, *arguments)


def test_a_folder_that_cannot_be_made(monkeypatch, log_dirs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--out .* cannot be written"):
        run_in_process(monkeypatch, *log_dirs, "--out", tmp_path / "file" / "nll.png")


@pytest.mark.parametrize("flag", ["--smoothing", "--pretraining_length"])
@pytest.mark.parametrize("value", ["0", "-3", "1.5", "many"])
def test_counts_must_be_positive(monkeypatch, log_dirs, flag, value):
    message = f"argument {flag}: must be (a whole number|at least 1), not '?{value}"
    with pytest.raises(UserError, match=message):
        run_in_process(monkeypatch, *log_dirs, "--out", "nll.png", flag, value)


def test_an_unfinished_trial_ends_the_script_without_a_traceback(log_dirs, tmp_path):
    os.remove(os.path.join(log_dirs[1], "nll.npz"))
    done = subprocess.run(
        [sys.executable, SCRIPT, *log_dirs, "--out", tmp_path / "nll.png"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "not finished" in done.stderr


def stream_trial(folder, length, streams=1, nll=3.0, **arguments):
    sums = [long_sums(length, seed, nll) for seed in range(streams)]
    return load_trial(write_stream_trial(folder, sums, **arguments))


def drawn_ticks(axis):
    axis.figure.canvas.draw()
    low, high = sorted(axis.get_view_interval())
    places = zip(axis.get_majorticklocs(), axis.get_majorticklabels())
    return [label.get_text() for place, label in places if low <= place <= high]


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_the_curves_of_streams_are_those_of_their_buckets(tmp_path, scale):
    trials = [stream_trial(tmp_path / str(streams), 100_000, streams) for streams in (1, 3)]
    axes = plot_nll.draw(trials, smoothing=700, scale=scale).axes
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
    figure = plot_nll.draw(trials, band=band)
    names = [str(number) for number in streams]
    assert legend_labels(figure) == [*names, *([words] if words else []), "pre-training length 8,192"]
    if words:
        curve = stream_curve(trials[0].arrays, smoothing=512, scale="log")
        corners = figure.axes[0].collections[0].get_paths()[0].vertices
        assert corners[:, 1].max() == pytest.approx((curve.mean + getattr(curve, spread)).max())


def test_a_kind_of_trial_has_its_own_axis_and_smoothing(tmp_path, trials):
    streams = [stream_trial(tmp_path / str(length), length) for length in (10_000, 1_000_000)]
    assert plot_nll.draw(streams).axes[0].get_xscale() == "log"
    assert plot_nll.draw(trials).axes[0].get_xscale() == "linear"
    for scale, short, long in (("log", 512, 512), ("linear", 512, 10_000)):
        for chosen, width in ((streams[:1], short), (streams, long)):
            curves = plot_nll.make_curves(chosen, None, scale)
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
        figure = plot_nll.draw(trials, scale=scale)
        axis = figure.axes[0].xaxis
        assert drawn_ticks(axis) == ticks
        boxes = [label.get_window_extent() for label in axis.get_majorticklabels()[1:-1]]
    assert not any(left.overlaps(right) for left, right in pairwise(boxes))
    assert axis.get_view_interval()[1] == length


def test_short_numbers():
    numbers = [0, 512, 1000, 1500, 250_000, 2_000_000, 10**9, 2.5e9]
    assert [short_number(number) for number in numbers] == ["0", "512", "1K", "1.5K", "250K", "2M", "1B", "2.5B"]


@pytest.mark.parametrize("length", [2, 3, 40])
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_a_stream_of_few_positions_can_be_seen(tmp_path, length, scale):
    with paper_style():
        figure = plot_nll.draw([stream_trial(tmp_path / "short", length)], scale=scale)
        save_figure(figure, [tmp_path / "nll.svg"])
    line = figure.axes[0].lines[0]
    assert (line.get_marker() == "o") == (len(line.get_xdata()) == 1)
    low, high = figure.axes[0].get_xlim()
    assert low < line.get_xdata()[0] < high


@pytest.mark.parametrize("scale", [[], ["--x", "linear"], ["--x", "log"]])
def test_the_script_draws_long_streams_side_by_side(monkeypatch, tmp_path, scale):
    names = [str(stream_trial(tmp_path / name, 10**9, 4, nll).log_dir) for name, nll in (("Λ", 3.0), ("full", 9.0))]
    run_in_process(monkeypatch, *names, *scale, "--labels", "Λ", "vanilla", "--out", tmp_path / "nll.svg")
    assert 1000 < (tmp_path / "nll.svg").stat().st_size < 600_000


def test_documents_and_a_stream_in_one_picture_are_refused(monkeypatch, log_dirs, tmp_path):
    stream = stream_trial(tmp_path / "stream", 5000).log_dir
    with pytest.raises(UserError, match="give trials of one kind"):
        run_in_process(monkeypatch, log_dirs[0], stream, "--out", tmp_path / "nll.png")
    assert not (tmp_path / "nll.png").exists()
