"""The pictures of diagnoses: what is drawn, in which heads, and bad input."""

import random
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from scripts import diagnose
from tests.visualization.diagnosis_files import write_diagnosis
from tests.visualization.pictures import assert_nothing_overlaps, legend_labels, run_in_process
from utils.errors import UserError
from visualization import (
    attention_entropy,
    attention_mass,
    position_pca,
    relative_attention_explosion,
    three_factors,
)
from visualization.drawing.diagnosis import HeadChoice, load_diagnoses
from visualization.drawing.style import paper_style, save_figure

SCRIPTS = (attention_entropy, attention_mass, position_pca, relative_attention_explosion, three_factors)
MOST_WIDTH = 2071  # pixels: 6.9 inches at 300 dpi
ONE_HEAD = HeadChoice((1,), (1,))


@pytest.fixture
def log_dirs(tmp_path):
    names = {"vanilla": None, "lambda": 64}
    return [str(write_diagnosis(tmp_path / name, window=window)) for name, window in names.items()]


@pytest.fixture
def trials(log_dirs):
    return load_diagnoses(log_dirs)


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("number", [1, 2])
def test_each_picture_is_as_wide_as_a_column_or_the_text(script, number, trials, tmp_path):
    with paper_style():
        figure = script.draw(trials[:number], title="$5 of \\frac")
        save_figure(figure, [tmp_path / "picture.png"])
        assert_nothing_overlaps(figure)
    assert matplotlib.image.imread(tmp_path / "picture.png").shape[1] in (1005, MOST_WIDTH - 1)
    assert all(axes.get_title() or axes.get_ylabel() == "position (tokens)" for axes in figure.axes)


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_script_writes_each_format(script, monkeypatch, log_dirs, tmp_path):
    outputs = [tmp_path / "new" / f"picture.{suffix}" for suffix in ("pdf", "svg")]
    run_in_process(monkeypatch, script, log_dirs[0], "--labels", "Λ", "--out", *outputs)
    assert outputs[0].read_bytes().startswith(b"%PDF-")
    assert ElementTree.parse(outputs[1]).getroot().tag.endswith("svg")


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_script_tells_what_is_wrong_in_a_sentence(script, monkeypatch, log_dirs, tmp_path):
    out = tmp_path / "picture.png"
    (tmp_path / "lambda" / "stats.npz").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="stats.npz cannot be read"):
        run_in_process(monkeypatch, script, *log_dirs, "--out", out)
    with pytest.raises(UserError, match="picture.gif: unsupported suffix"):
        run_in_process(monkeypatch, script, log_dirs[0], "--out", out.with_suffix(".gif"))
    with pytest.raises(UserError, match="--layer 7: .*vanilla measured layers 0 to 4"):
        run_in_process(monkeypatch, script, log_dirs[0], "--layer", "7", "--out", out)
    with pytest.raises(UserError, match="--labels: 1 given for 2"):
        run_in_process(monkeypatch, script, *log_dirs, "--labels", "a", "--out", out)
    assert not out.exists()


def test_a_script_runs_by_itself_and_ends_without_a_traceback(tmp_path):
    script = Path(three_factors.__file__)
    done = subprocess.run(
        [sys.executable, script, tmp_path, "--out", tmp_path / "a.png"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "no config.json: the trial is not finished" in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_logits_of_all_heads_and_of_the_one_that_grows(trials):
    figure = relative_attention_explosion.draw(trials)
    every, one = figure.axes
    for index, trial in enumerate(trials):
        largest = trial.arrays["logit_max_mean"]
        line = every.lines[2 * index]
        np.testing.assert_array_equal(line.get_xdata(), trial.distances)
        np.testing.assert_allclose(line.get_ydata(), np.median(largest.reshape(-1, largest.shape[-1]), axis=0))
        np.testing.assert_array_equal(one.lines[2 * index].get_ydata(), largest[1, 1])
    assert one.get_title() == "Grows most: head 1 of layer 1"
    dots = every.lines[3]  # of Λ-attention: the first tokens, far away
    assert dots.get_marker() == "o" and dots.get_xdata()[-1] == trials[1].distances[-1]
    assert legend_labels(figure)[:4] == ["vanilla", "lambda", "10–90% of heads", "± 1 s.d. (one head)"]
    assert legend_labels(figure)[-1] == "pre-training length 256" and every.lines[-1].get_xdata() == [256, 256]


def test_the_first_tokens_do_not_make_a_head_grow(trials):
    trial = trials[0]
    trial.arrays["logit_max_mean"][4, 0, -1] += 100
    assert relative_attention_explosion.growing_head(trial, HeadChoice()) == ONE_HEAD
    assert relative_attention_explosion.growing_head(trial, HeadChoice((2, 0), None)) != ONE_HEAD
    beyond_every_text = relative_attention_explosion.growing_head(trial, HeadChoice(), 10_000)
    assert beyond_every_text == HeadChoice((4,), (0,))


@pytest.mark.parametrize("statistic", ["max", "mean", "bound"])
def test_a_chosen_head_has_one_panel_with_its_documents(trials, statistic):
    figure = relative_attention_explosion.draw(trials[:1], choice=ONE_HEAD, statistic=statistic)
    (axes,) = figure.axes
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), trials[0].arrays[f"logit_{statistic}_mean"][1, 1])
    top = trials[0].arrays[f"logit_{statistic}_mean"][1, 1] + trials[0].arrays[f"logit_{statistic}_deviation"][1, 1]
    assert axes.collections[0].get_paths()[0].vertices[:, 1].max() == pytest.approx(np.nanmax(top))
    assert "± 1 s.d. over documents" in legend_labels(figure)


@pytest.mark.parametrize("script", SCRIPTS)
def test_one_document_and_no_pretraining_length_can_be_drawn(script, tmp_path):
    trial = write_diagnosis(tmp_path / "one", documents=1, pretraining_length=None, layers=(3,), growth=(0, 0))
    figure = script.draw(load_diagnoses([str(trial)]))
    assert not any("s.d." in label or "pre-training" in label for label in legend_labels(figure))


@pytest.mark.parametrize("unit, most", [("nats", None), ("attended", 0.5), ("all", 0.5)])
def test_entropy_in_its_unit(trials, unit, most):
    axes = attention_entropy.draw(trials, unit=unit, scale="log").axes[0]
    lines = axes.lines[unit == "nats" :]
    for trial, line in zip(trials, lines[::2]):
        np.testing.assert_array_equal(line.get_xdata(), trial.arrays["positions"] + 1)
        last = np.median(trial.arrays["entropy_mean"][..., -1])
        tokens = {"nats": np.e, "attended": trial.arrays["attended"][0, -1], "all": 512}[unit]
        assert line.get_ydata()[-1] == pytest.approx(last / np.log(tokens))
        assert most is None or np.nanmax(line.get_ydata()) <= most
    assert axes.get_xscale() == "log" and axes.get_ylabel() == attention_entropy.LABELS[unit]


def test_shares_of_the_mass_add_up(trials):
    for choice, bars in ((HeadChoice(), 5), (HeadChoice((2,)), 3), (HeadChoice((0, 4), (1,)), 2)):
        growing, final = attention_mass.draw(trials[:1], choice=choice).axes
        tops = [patch.get_y() + patch.get_height() for patch in final.patches]
        assert len(tops) == 3 * bars and tops[-bars:] == pytest.approx([1] * bars)
        areas = [area.get_paths()[0].vertices for area in growing.collections]
        assert len(areas) == 3 and areas[-1][:, 1].max() == pytest.approx(1)
    heads = trials[0].arrays["mass_first_mean"][2, :, -1]
    final = attention_mass.draw(trials[:1], choice=HeadChoice((2,))).axes[1]
    assert [patch.get_height() for patch in final.patches[:3]] == pytest.approx(heads)
    assert final.get_xlabel() == "head of layer 2"


def test_sizes_of_first_and_window_are_told_where_they_are_the_same(trials):
    assert legend_labels(attention_mass.draw(trials[:1]))[:3] == ["first 4 tokens", "window of 128", "middle"]
    assert legend_labels(attention_mass.draw(trials))[:3] == ["first tokens", "window", "middle"]


def test_first_tokens_are_triangles_and_later_ones_dots(trials):
    figure = position_pca.draw(trials[:1], layers=[2, 2])
    panel, bar = figure.axes
    later, first = panel.collections
    coordinates, position = trials[0].arrays["hidden_coordinates"][2], trials[0].arrays["hidden_position"]
    np.testing.assert_allclose(first.get_offsets(), coordinates[position < 4, :2])
    np.testing.assert_array_equal(later.get_array(), position[position >= 4])
    assert panel.get_title() == "Layer 2" and bar.get_ylabel() == "position (tokens)"
    assert panel.get_xlabel() == f"PC 1 ({trials[0].arrays['explained_variance_ratio'][2, 0]:.0%})"
    assert legend_labels(figure) == ["first 4 tokens"]


def test_an_odd_number_of_layers_of_one_trial_is_drawn(trials):
    figure = position_pca.draw(trials[:1], layers=[0, 1, 3])
    assert [axes.get_title() for axes in figure.axes] == ["Layer 0", "Layer 1", "Layer 3", ""]


def test_layers_are_spread_and_each_trial_has_a_row(trials):
    assert position_pca.spread_layers(trials[0]) == [0, 1, 3, 4]
    titles = [axes.get_title() for axes in position_pca.draw(trials, layers=[0, 4]).axes[:-1]]
    assert titles == ["vanilla, layer 0", "vanilla, layer 4", "lambda, layer 0", "lambda, layer 4"]


def test_three_factors_are_those_of_their_own_pictures(trials):
    logits, entropy, hidden = three_factors.draw(trials, growing=True, hidden_layer=4).axes[:3]
    np.testing.assert_array_equal(logits.lines[0].get_ydata(), trials[0].arrays["logit_max_mean"][1, 1])
    alone = attention_entropy.draw(trials).axes[0]
    for line, other in zip(entropy.lines, alone.lines):
        np.testing.assert_array_equal(line.get_xydata(), other.get_xydata())
    np.testing.assert_allclose(
        hidden.collections[1].get_offsets(),
        position_pca.draw(trials, layers=[4]).axes[0].collections[1].get_offsets(),
    )
    assert hidden.get_title() == "3. Hidden states, layer 4"
    assert three_factors.draw(trials[:1]).axes[0].get_title() == "1. Largest logit, all heads"


def test_pictures_of_a_real_trial(monkeypatch, tiny_llama_dir, tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    words = random.Random(0)
    for place, length in enumerate((90, 40)):
        (texts / f"{place}.txt").write_text(" ".join(words.choices(["the", "and", "a", "that"], k=length)))
    flags = ["--model", tiny_llama_dir, "--dataset", texts, "--max_length", 100, "--num_queries", 8]
    branches = ["--use_lambda_attention", "--local_branch", 24, "--global_branch", 4]
    for name, extra in (("vanilla", []), ("lambda", branches)):
        run_in_process(monkeypatch, diagnose, *flags, *extra, "--log_dir", tmp_path / name)
    for script in SCRIPTS:
        out = tmp_path / f"{script.__name__}.svg"
        run_in_process(monkeypatch, script, tmp_path / "vanilla", tmp_path / "lambda", "--out", out)
        assert out.stat().st_size > 10_000
