"""The command that draws NLL: the files that it writes, and bad input."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib.image
import pytest

from tests.visualization.nll_files import stream_trial
from tests.visualization.pictures import run_in_process
from utils.errors import UserError
from visualization import plot_nll

SCRIPT = Path(plot_nll.__file__)


def test_the_script_writes_each_format_without_a_display(nll_dirs, tmp_path):
    outputs = [tmp_path / "new" / f"nll.{suffix}" for suffix in ("png", "pdf", "svg")]
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "PYTHONPATH")}
    done = subprocess.run(
        [sys.executable, SCRIPT, *nll_dirs, "--labels", "vanilla", "Λ", "--title", "a", "--out", *outputs],
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


def test_the_same_trials_give_the_same_bytes(monkeypatch, nll_dirs, tmp_path):
    names = ["a.svg", "b.svg", "a.pdf", "b.pdf"]
    for name in names:
        run_in_process(monkeypatch, plot_nll, *nll_dirs, "--out", tmp_path / name)
    content = [(tmp_path / name).read_bytes() for name in names]
    assert content[0] == content[1] and content[2] == content[3]


def test_a_failed_write_leaves_the_old_picture(monkeypatch, nll_dirs, tmp_path):
    def disk_full(source, target):
        raise OSError(28, "No space left on device")

    picture = tmp_path / "pictures" / "nll.png"
    picture.parent.mkdir()
    picture.write_bytes(b"old")
    monkeypatch.setattr(os, "replace", disk_full)
    with pytest.raises(UserError, match="nll.png cannot be written: No space left on device"):
        run_in_process(monkeypatch, plot_nll, *nll_dirs, "--out", picture)
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
def test_bad_arguments_are_told_in_one_sentence(monkeypatch, nll_dirs, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        run_in_process(monkeypatch, plot_nll, *nll_dirs, *arguments)


def test_a_folder_that_cannot_be_made(monkeypatch, nll_dirs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--out .* cannot be written"):
        run_in_process(monkeypatch, plot_nll, *nll_dirs, "--out", tmp_path / "file" / "nll.png")


@pytest.mark.parametrize("flag", ["--smoothing", "--pretraining_length"])
@pytest.mark.parametrize("value", ["0", "-3", "1.5", "many"])
def test_counts_must_be_positive(monkeypatch, nll_dirs, flag, value):
    message = f"argument {flag}: must be (a whole number|at least 1), not '?{value}"
    with pytest.raises(UserError, match=message):
        run_in_process(monkeypatch, plot_nll, *nll_dirs, "--out", "nll.png", flag, value)


def test_an_unfinished_trial_ends_the_script_without_a_traceback(nll_dirs, tmp_path):
    os.remove(os.path.join(nll_dirs[1], "nll.npz"))
    done = subprocess.run(
        [sys.executable, SCRIPT, *nll_dirs, "--out", tmp_path / "nll.png"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "not finished" in done.stderr


@pytest.mark.parametrize("scale", [[], ["--x", "linear"], ["--x", "log"]])
def test_the_script_draws_long_streams_side_by_side(monkeypatch, tmp_path, scale):
    names = [str(stream_trial(tmp_path / name, 10**9, 4, nll).log_dir) for name, nll in (("Λ", 3.0), ("full", 9.0))]
    run_in_process(monkeypatch, plot_nll, *names, *scale, "--labels", "Λ", "vanilla", "--out", tmp_path / "nll.svg")
    assert 1000 < (tmp_path / "nll.svg").stat().st_size < 600_000


def test_documents_and_a_stream_in_one_picture_are_refused(monkeypatch, nll_dirs, tmp_path):
    stream = stream_trial(tmp_path / "stream", 5000).log_dir
    with pytest.raises(UserError, match="give trials of one kind"):
        run_in_process(monkeypatch, plot_nll, nll_dirs[0], stream, "--out", tmp_path / "nll.png")
    assert not (tmp_path / "nll.png").exists()
