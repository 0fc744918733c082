"""The scripts that run the whole suite: which benchmarks, in what time, and what becomes of one that fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["prefill_kernel", "decode_kernel", "model_speed", "streaming_speed", "growth", "attention_memory"]
# In the place of Python: notes what it was to run, and does what a benchmark's name says.
PYTHON = f"""#!{sys.executable}
import os, sys, time
script = os.path.basename(sys.argv[1])
with open(os.environ["CALLS"], "a") as file:
    print(script, *sys.argv[2:], file=file)
if script == "growth.py":
    sys.exit(3)
if script == os.environ.get("SAVES"):
    open(os.environ["SAVED"], "w").close()
if script == os.environ.get("SLOW"):
    time.sleep(60)
"""


@pytest.fixture
def suite(tmp_path):
    """Runs a copy of a script beside results of its own; returns the process and what Python was called with."""
    folder = tmp_path / "benchmarks"
    results = tmp_path / "logs" / "benchmarks"
    for made in (folder, results):
        made.mkdir(parents=True)
    for name in ("all.sh", "gpu.sh"):
        (folder / name).write_bytes((ROOT / "benchmarks" / name).read_bytes())
        (folder / name).chmod(0o755)
    python, calls = tmp_path / "python", tmp_path / "calls"
    python.write_text(PYTHON)
    python.chmod(0o755)

    def run(script, *words, **settings):
        environment = {**os.environ, "PYTHON": str(python), "CALLS": str(calls), **settings}
        done = subprocess.run(
            [folder / script, *words], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=50
        )
        return done, calls.read_text().splitlines() if calls.exists() else []

    run.results = results
    return run


def test_every_benchmark_runs_and_one_that_fails_is_named_at_the_end(suite):
    done, calls = suite("all.sh")
    assert calls == [f"{name}.py --device cpu --out logs/benchmarks" for name in NAMES]
    assert done.returncode == 1 and done.stderr == "not whole: growth (exit status 3)\n"


def test_those_named_are_run_and_what_they_save_becomes_pictures(suite):
    (suite.results / "attention_memory_cuda.json").write_text("of another day")
    saves = {"SAVES": "decode_kernel.py", "SAVED": str(suite.results / "decode_kernel_cuda.json")}
    done, calls = suite("all.sh", "cuda", "decode_kernel", "attention_memory", **saves)
    assert done.returncode == 0 and done.stderr == ""
    out = "--device cuda --out logs/benchmarks"
    assert calls[0] == f"decode_kernel.py {out}" and calls[2:] == [f"attention_memory.py {out}"]
    script, results, flag, picture = calls[1].split()
    assert (script, flag) == ("benchmark.py", "--out")
    assert results == "logs/benchmarks/decode_kernel_cuda.json"
    assert picture == "logs/benchmarks/decode_kernel_cuda.png"


def test_make_bench_alone_writes_what_is_kept(suite):
    recipe = (ROOT / "Makefile").read_text().split("\nbench:")[1].splitlines()[1].split()
    assert recipe[:3] == ["RESULTS=benchmarks/results", "PICTURES=docs/benchmarks", "benchmarks/all.sh"]
    kept = {"RESULTS": "benchmarks/results", "PICTURES": "docs/benchmarks"}
    (suite.results.parents[1] / kept["RESULTS"]).mkdir()
    saves = {"SAVES": "decode_kernel.py", "SAVED": f"{kept['RESULTS']}/decode_kernel_cpu.json"}
    _, calls = suite("all.sh", "cpu", "decode_kernel", **kept, **saves)
    assert calls[0] == "decode_kernel.py --device cpu --out benchmarks/results"
    assert calls[1].split()[1:] == [saves["SAVED"], "--out", "docs/benchmarks/decode_kernel_cpu.png"]


def test_the_gpu_has_a_command_of_its_own(suite):
    done, calls = suite("gpu.sh", "--minutes", "2", "--parts", "layer")
    assert calls == ["gpu.py --minutes 2 --parts layer"] and done.returncode == 0


def test_each_has_its_share_of_the_time(suite):
    words = ("cuda", "prefill_kernel", "decode_kernel")
    done, calls = suite("all.sh", *words, SECONDS_IN_ALL="4", SLOW="prefill_kernel.py")
    assert calls == [f"{name}.py --device cuda --out logs/benchmarks" for name in ("prefill_kernel", "decode_kernel")]
    assert done.returncode == 1 and done.stderr == "not whole: prefill_kernel (exit status 124)\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tpu"], "error: the device must be cpu or cuda, not tpu\n"),
        (["cpu", "speed"], f"error: there is no benchmark speed: give one of {' '.join(NAMES)}\n"),
    ],
)
def test_words_that_name_nothing_are_refused(suite, words, said):
    done, calls = suite("all.sh", *words)
    assert (done.returncode, done.stderr, calls) == (2, said, [])


def test_shares_are_not_more_than_the_whole():
    lines = (ROOT / "benchmarks" / "all.sh").read_text().splitlines()
    (shares,) = [line for line in lines if line.startswith("SHARES=(")]
    numbers = [int(number) for number in shares[len("SHARES=(") : shares.index(")")].split()]
    assert len(numbers) == len(NAMES) and sum(numbers) <= 100
