"""The page: what it says, that it says it of any trial and label, and bad input."""

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.visualization.report_files import EVIL, SHOWN, Reader, document_trial, extend, run
from utils.errors import UserError
from visualization import report
from visualization.reporting.trials import load_report_trials


def test_the_script_writes_one_page_and_nothing_else(tmp_path):
    trial = document_trial(tmp_path / "vanilla", 10.0)
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "PYTHONPATH")}
    line = [sys.executable, report.__file__, trial, "--out", tmp_path / "new" / "sweep.html"]
    done = subprocess.run(line, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["sweep.html"]


def test_the_page_needs_nothing_from_outside(report_page):
    page = Reader(report_page.read_text())
    addresses = [found[name] for _, found in page.tags for name in ("src", "href", "srcset", "data") if name in found]
    assert {address[:5] for address in addresses} == {"data:", "#tria"}
    policy = next(found["content"] for _, found in page.tags if "http-equiv" in found)
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert not any(name.startswith("on") or name == "style" for _, found in page.tags for name in found)


def test_the_same_trials_give_the_same_bytes(monkeypatch, report_dirs, tmp_path):
    for name in ("a.html", "b.html"):
        run(monkeypatch, *report_dirs[:2], "--out", tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_each_trial_tells_its_command_arguments_versions_and_buckets(report_page):
    page = Reader(report_page.read_text())
    said = " ".join(page.text.split())
    for words in (
        "python scripts/eval_ppl_deepspeed.py --model 'a model & more' --log_dir 'logs/<x>'",
        "the nearest 4,096 tokens, the first 10, distances up to 4,096",
        "torch 2.13.0",
        "0123abc",
        "plays, 2 documents",
        "0 – 31",
        "How to read this.",
        "1,001",
    ):
        assert words in said, words
    ids = {found["id"] for _, found in page.tags if "id" in found}
    links = [found["href"] for tag, found in page.tags if tag == "a"]
    assert links and {link[1:] for link in links} <= ids
    pictures = [found["src"] for tag, found in page.tags if tag == "img"]
    assert len(pictures) == 4 and len(set(pictures)) == 4
    assert b"<svg" in base64.b64decode(pictures[0].split(",")[1])


def test_trials_of_other_versions_are_marked(monkeypatch, report_dirs, tmp_path):
    run(monkeypatch, *report_dirs[:2], "--out", tmp_path / "alike.html")
    assert "Versions differ" not in (tmp_path / "alike.html").read_text()
    extend(
        Path(report_dirs[0]), "config.json", versions={"torch": "2.11.0"}, continued=[{"versions": {"torch": "2.13.0"}}]
    )
    run(monkeypatch, *report_dirs[:2], "--out", tmp_path / "other.html")
    said = " ".join(Reader((tmp_path / "other.html").read_text()).text.split())
    assert "Versions differ" in said and "torch 2.11.0 then 2.13.0" in said and "Went on with" in said


def test_whatever_a_label_is_it_is_text(report_page):
    page = Reader(report_page.read_text())
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert EVIL in page.text and SHOWN in page.text


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("results.json", None, "has no results.json: the trial is not finished"),
        ("config.json", "{}", "holds no arguments: it is damaged, or no trial's config"),
        ("config.json", '{"script": "train", "arguments": {}}', "is of the script 'train': give trials of eval_ppl"),
        ("config.json", '{"script": "eval_ppl_deepspeed", "arguments": {}}', "holds no model as a trial's does"),
        ("results.json", "{", "cannot be read as JSON"),
        ("results.json", '{"documents": 2, "nll": "3"}', "has 'nll' '3', which must be a number"),
        ("results.json", '{"documents": 2, "nll": NaN}', "has 'nll' nan, which must be a number"),
        ("results.json", '{"documents": 2, "nll": 3.0}', "lacks 'buckets', which must be a list of objects"),
        ("results.json", '{"documents": 2, "nll": 3.0, "buckets": [{}]}', "has a bucket without start or end"),
        ("samples.jsonl", "", "has 0 lines where results.json counts 2"),
        ("nll.npz", "x", "cannot be read as an npz file of arrays"),
    ],
)
def test_a_trial_that_is_not_whole_is_told_in_one_sentence(monkeypatch, report_dirs, tmp_path, name, content, message):
    path = tmp_path / "vanilla" / name
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UserError) as caught:
        run(monkeypatch, *report_dirs, "--out", tmp_path / "a.html")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "a.html").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--out", "report.pdf"], "--out report.pdf: unsupported suffix, a page ends in .html"),
        (["--labels", "a"], "--labels: 1 given for 3 log dirs"),
        (["missing"], "log dir missing is not a folder"),
    ],
)
def test_bad_arguments_are_told_in_one_sentence(monkeypatch, report_dirs, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UserError, SystemExit)) as caught:
        run(monkeypatch, *report_dirs, *arguments)
    assert message in str(caught.value)
    assert not list(tmp_path.glob("*.html"))


def test_a_folder_given_twice_is_refused(report_dirs):
    with pytest.raises(UserError, match="is given twice"):
        load_report_trials([report_dirs[0], report_dirs[0] + "/"])


def test_a_failed_write_leaves_the_old_page(monkeypatch, report_dirs, tmp_path):
    def disk_full(source, target):
        raise OSError(28, "No space left on device")

    page = tmp_path / "a.html"
    page.write_text("old")
    monkeypatch.setattr(os, "replace", disk_full)
    monkeypatch.setattr(report, "draw_pictures", lambda *trials, **given: [])
    with pytest.raises(UserError, match="a.html cannot be written"):
        run(monkeypatch, *report_dirs, "--out", page)
    assert page.read_text() == "old" and not list(tmp_path.glob("*.partial"))
