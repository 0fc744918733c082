"""The pictures of diagnoses: each is drawn and written by its command; the one of three factors; bad input."""

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
from tests.visualization.pictures import (
    LONG_LABELS,
    assert_nothing_overlaps,
    assert_words_are_apart,
    legend_labels,
    run_in_process,
)
from utils.errors import UserError
from visualization import (
    attention_entropy,
    attention_mass,
    position_pca,
    relative_attention_explosion,
    three_factors,
)
from visualization.drawing import entropy, logits, mass, projection
from visualization.drawing.diagnosis import load_diagnoses
from visualization.drawing.style import paper_style, save_figure

SCRIPTS = (attention_entropy, attention_mass, position_pca, relative_attention_explosion, three_factors)
PICTURES = (entropy, mass, projection, logits, three_factors)
MOST_WIDTH = 2071  # pixels: 6.9 inches at 300 dpi


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("number", [1, 2])
def test_each_picture_is_as_wide_as_a_column_or_the_text(picture, number, diagnoses, tmp_path):
    with paper_style():
        figure = picture.draw(diagnoses[:number], title="$5 of \\frac")
        save_figure(figure, [tmp_path / "picture.png"])
        assert_nothing_overlaps(figure)
    assert matplotlib.image.imread(tmp_path / "picture.png").shape[1] in (1005, MOST_WIDTH - 1)
    assert all(axes.get_title() or axes.get_ylabel() == "position (tokens)" for axes in figure.axes)


@pytest.mark.parametrize("picture", PICTURES)
def test_long_labels_do_not_overlap(picture, diagnosis_dirs):
    with paper_style():
        figure = picture.draw(load_diagnoses(diagnosis_dirs, LONG_LABELS[:2]), title="A title of many words, " * 9)
        figure.draw_without_rendering()
        assert_words_are_apart(figure)
    assert "tiny, plays" in figure.get_suptitle()


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_script_writes_each_format(script, monkeypatch, diagnosis_dirs, tmp_path):
    outputs = [tmp_path / "new" / f"picture.{suffix}" for suffix in ("pdf", "svg")]
    run_in_process(monkeypatch, script, diagnosis_dirs[0], "--labels", "Λ", "--out", *outputs)
    assert outputs[0].read_bytes().startswith(b"%PDF-")
    assert ElementTree.parse(outputs[1]).getroot().tag.endswith("svg")


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_script_tells_what_is_wrong_in_a_sentence(script, monkeypatch, diagnosis_dirs, tmp_path):
    out = tmp_path / "picture.png"
    (tmp_path / "lambda" / "stats.npz").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="stats.npz cannot be read"):
        run_in_process(monkeypatch, script, *diagnosis_dirs, "--out", out)
    with pytest.raises(UserError, match="picture.gif: unsupported suffix"):
        run_in_process(monkeypatch, script, diagnosis_dirs[0], "--out", out.with_suffix(".gif"))
    with pytest.raises(UserError, match="--layer 7: .*vanilla measured layers 0 to 4"):
        run_in_process(monkeypatch, script, diagnosis_dirs[0], "--layer", "7", "--out", out)
    with pytest.raises(UserError, match="--labels: 1 given for 2"):
        run_in_process(monkeypatch, script, *diagnosis_dirs, "--labels", "a", "--out", out)
    assert not out.exists()


def test_a_script_runs_by_itself_and_ends_without_a_traceback(tmp_path):
    script = Path(three_factors.__file__)
    done = subprocess.run(
        [sys.executable, script, tmp_path, "--out", tmp_path / "a.png"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "no config.json: the trial is not finished" in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("picture", PICTURES)
def test_one_document_and_no_pretraining_length_can_be_drawn(picture, tmp_path):
    trial = write_diagnosis(tmp_path / "one", documents=1, pretraining_length=None, layers=(3,), growth=(0, 0))
    figure = picture.draw(load_diagnoses([str(trial)]))
    assert not any("s.d." in label or "pre-training" in label for label in legend_labels(figure))


def test_three_factors_are_those_of_their_own_pictures(diagnoses):
    first, second, third = three_factors.draw(diagnoses, growing=True, hidden_layer=4).axes[:3]
    np.testing.assert_array_equal(first.lines[0].get_ydata(), diagnoses[0].arrays["logit_max_mean"][1, 1])
    alone = entropy.draw(diagnoses).axes[0]
    for line, other in zip(second.lines, alone.lines):
        np.testing.assert_array_equal(line.get_xydata(), other.get_xydata())
    np.testing.assert_allclose(
        third.collections[1].get_offsets(),
        projection.draw(diagnoses, layers=[4]).axes[0].collections[1].get_offsets(),
    )
    assert third.get_title() == "3. Hidden states, layer 4"
    assert three_factors.draw(diagnoses[:1]).axes[0].get_title() == "1. Largest logit, all heads"


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
