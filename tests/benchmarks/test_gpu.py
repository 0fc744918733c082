"""The command for whoever has a GPU, on the CPU in tiny sizes: whole, stopped and gone on with, on a bare machine."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import gpu
from benchmarks.gpu_parts.every import PARTS
from utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
ABSENT = (
    "deepspeed datasets gguf accelerate matplotlib evaluate rouge_score sacrebleu sklearn sentencepiece zstandard "
    "wonderwords pandas scipy"
).split()
"""Packages that an image with torch and Transformers need not have."""
WITHOUT = """
import runpy, sys
sys.modules.update(dict.fromkeys({absent!r}))
sys.path.insert(0, {folder!r})
sys.argv[0] = {script!r}
runpy.run_path({script!r}, run_name="__main__")
"""
SCRIPT = str(ROOT / "benchmarks" / "gpu.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def command(*words, absent=()):
    code = WITHOUT.format(absent=list(absent), folder=str(ROOT / "benchmarks"), script=SCRIPT)
    return [sys.executable, "-c", code, "--device", "cpu", "--tiny", *map(str, words)]


def run(*words, absent=()):
    return subprocess.run(
        command(*words, absent=absent), env=ENVIRONMENT, capture_output=True, text=True, cwd="/", timeout=600
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """All parts, on a machine that has nothing else: what was printed, and the report."""
    path = tmp_path_factory.mktemp("gpu") / "out.json"
    done = run("--out", path, absent=ABSENT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, json.loads(path.read_text()), path


def test_every_part_is_measured_without_any_other_package(whole):
    printed, report, path = whole
    assert list(report["parts"]) == [part.name for part in PARTS] == list(gpu.PARTS)
    states = {found["state"] for part in report["parts"].values() for found in part["cases"].values()}
    assert states == {"measured", "refused"}
    refused = [
        name for part in report["parts"].values() for name, x in part["cases"].items() if x["state"] == "refused"
    ]
    assert all("flash" in name for name in refused)  # which a CPU has not
    assert f"wrote {path}" in printed and "times faster than dense" in printed


def test_the_report_has_a_number_for_every_target(whole):
    _, report, _ = whole
    assert len(report["targets"]) == 10 and all(target["seen"] is not None for target in report["targets"])
    assert report["targets"][0]["met"] is True and len(report["layer_apart"]) >= 4
    stream = report["parts"]["stream"]["cases"]["chunks of 64 tokens, auto"]
    assert stream["tokens_per_second"] > 0 and 0 < stream["busy_share"] <= 1
    growth = report["parts"]["growth"]["cases"]
    assert growth["a layer over 1,024 tokens"]["backend"].startswith("blockwise (")
    assert growth["a decoded token at 100"]["cache_mib"] == growth["a decoded token at 10,000"]["cache_mib"]


def test_a_second_call_has_nothing_left_to_do(whole):
    _, report, path = whole
    done = run("--out", path)
    again = json.loads(path.read_text())
    assert done.returncode == 0 and again["parts"] == report["parts"]


def test_a_kill_costs_the_case_that_was_under_way(tmp_path):
    path, words = tmp_path / "out.json", ["--parts", "growth", "large_model"]
    process = subprocess.Popen(command("--out", path, *words), env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (path.exists() and "growth" in json.loads(path.read_text())["parts"]):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    stopped = json.loads(path.read_text())["parts"]
    done = run("--out", path, *words)
    assert done.returncode == 0, done.stderr
    parts = json.loads(path.read_text())["parts"]
    assert parts["large_model"] == stopped["large_model"]  # the first, and not measured again
    assert len(parts["growth"]["cases"]) == 4
    assert {found["state"] for found in parts["growth"]["cases"].values()} == {"measured"}
    assert "large_model:" not in done.stdout


def test_the_process_ends_in_time(tmp_path):
    begun = time.monotonic()
    done = run("--out", tmp_path / "out.json", "--minutes", "0.2")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - begun < 12 + 20  # and a busy machine's time to begin and end a process
    assert "not reached: growth" in done.stdout or "the time is up" in done.stdout


def test_the_end_comes_whatever_is_under_way(monkeypatch, capsys):
    left = []
    monkeypatch.setattr(os, "_exit", left.append)
    gpu._end()
    assert left == [0] and "the same command goes on from there" in capsys.readouterr().out


def test_a_lost_device_goes_on_in_another_process(monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--tiny", "--parts", "layer", "--minutes", "4"])
    monkeypatch.setattr(os, "execv", lambda program, words: started.append((program, words)))
    monkeypatch.setattr(gpu, "BEGUN", time.monotonic() - 60)
    gpu._go_on_in_another_process(gpu.parse_arguments(), tmp_path / "out.json")
    ((program, words),) = started
    assert program == sys.executable and words[1] == gpu.__file__
    assert words[2:6] == ["--device", "cpu", "--minutes", "3.000"] or 2.9 < float(words[5]) < 3
    assert words[6:] == ["--out", str(tmp_path / "out.json"), "--parts", "layer", "--tiny"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--device cpu", "--device cpu needs --tiny: the sizes of a GPU are too large for a CPU"),
        ("--minutes 0.1 --tiny --device cpu", "argument --minutes: must be at least 0.2 minutes, not 0.1"),
        ("--parts speed", "invalid choice: 'speed'"),
        ("", "there is no CUDA device here; --device cpu --tiny tries it out without one"),
    ],
)
def test_what_cannot_be_is_one_sentence(words, said, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu.py", *words.split()])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match=said):
        gpu.check_machine(gpu.parse_arguments())


def test_a_package_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "einops", None)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--tiny"])
    with pytest.raises(UserError, match="^there is no package einops here: install it; "):
        gpu.check_machine(gpu.parse_arguments())
