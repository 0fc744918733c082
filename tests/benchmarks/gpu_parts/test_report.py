"""The file of a report: what is kept of another run, and what makes it another one."""

import json

import pytest

from benchmarks.gpu_parts import report as reports
from benchmarks.gpu_parts.case import Case, Part
from benchmarks.gpu_parts.report import Report, default_path, hash_of_sources
from benchmarks.gpu_parts.sizes import TINY, Plan
from utils.errors import UserError

PLAN = Plan("cpu", TINY)
CASE = Case("a", 1.0, dict)
PART = Part("one", "one?", 0.5, lambda plan: iter([CASE]))


@pytest.fixture
def path(tmp_path):
    """That of a report with one measured case."""
    path = tmp_path / "gpu_card.json"
    Report(path, PLAN).put(PART, CASE, {"state": "measured", "rate": float("nan"), "times": [float("inf"), 1]})
    return path


def test_it_is_json_that_tells_what_was_measured_on_what(path):
    content = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert content["parts"]["one"]["question"] == "one?"
    found = content["parts"]["one"]["cases"]["a"]
    assert (found["rate"], found["times"]) == ("nan", ["inf", 1]) and found["at"].endswith("Z")
    assert content["identity"]["sizes"] == "tiny" and content["machine"]["memory_mib"] > 100
    assert not list(path.parent.glob("*.partial"))


def test_the_same_code_and_machine_go_on(path):
    assert Report(path, PLAN).is_over(PART, CASE)
    assert not Report(path, PLAN, again=("one",)).is_over(PART, CASE)
    assert Report(path, PLAN, again=("two",)).is_over(PART, CASE)


def test_other_code_begins_anew_and_what_was_there_is_kept(path, monkeypatch):
    before = path.read_text()
    monkeypatch.setattr(reports, "hash_of_sources", lambda: "other")
    report = Report(path, PLAN)
    assert report.replaced == path.with_name(f"gpu_card_{hash_of_sources()}.json")
    assert report.replaced.read_text() == before and not report.is_over(PART, CASE)


@pytest.mark.parametrize("text", ["{", "[]", '{"identity": 1, "parts": 2}', '{"title": "model_speed"}'])
def test_a_file_that_is_no_report_is_refused(tmp_path, text):
    path = tmp_path / "model_speed.json"
    path.write_text(text)
    with pytest.raises(UserError, match=f"^--out {path} is there and holds no report of gpu.py"):
        Report(path, PLAN)
    assert path.read_text() == text


def test_the_code_that_counts_is_what_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(reports, "ROOT", tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "a.py").write_text("a = 1")
    first = hash_of_sources()
    (tmp_path / "models" / "result.json").write_text("{}")
    assert hash_of_sources() == first
    (tmp_path / "models" / "a.py").write_text("a = 2")
    assert hash_of_sources() != first


def test_a_file_by_the_card(monkeypatch):
    monkeypatch.setattr(reports, "identity", lambda plan: {"device": "NVIDIA H100 80GB HBM3"})
    assert default_path(Plan("cuda", TINY)).name == "gpu_nvidia_h100_80gb_hbm3.json"
    assert default_path(PLAN).name == "gpu_cpu.json"
