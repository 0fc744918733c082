"""The scripts that run the whole suite: which benchmarks, in what time, and what becomes of one that fails."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = "sample/SmolLM2-135M-Instruct/config.json"
NAMES = ["prefill_kernel", "decode_kernel", "model_speed", "streaming_speed", "growth", "attention_memory"]
# In the place of Python: notes what it was to run, and does what a benchmark's name says.
PYTHON = f"""#!{sys.executable}
import os, sys, time
script = os.path.basename(sys.argv[1])
with open(os.environ["CALLS"], "a") as file:
    print(script, *sys.argv[2:], file=file)
if script == "growth.py":
    sys.exit(3)
if script == "machine_name.py":
    if "UNKNOWN" in os.environ:
        sys.exit("error: no such device")
    print("a_" + sys.argv[-1])
if script == os.environ.get("SAVES"):
    os.makedirs(os.path.dirname(os.environ["SAVED"]), exist_ok=True)
    open(os.environ["SAVED"], "w").close()
if script == os.environ.get("SLOW"):
    time.sleep(60)
"""


@pytest.fixture
def suite(tmp_path):
    """Runs a copy of a script, or of the Makefile, beside results of its own; returns the process and what Python was
    called with.
    """
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
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        environment = {**kept, "PYTHON": str(python), "CALLS": str(calls), **settings}
        program = script if script == "make" else folder / script
        done = subprocess.run(
            [program, *words], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=50
        )
        return done, calls.read_text().splitlines() if calls.exists() else []

    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(python)
    run.results = results
    return run


def test_every_benchmark_runs_and_one_that_fails_is_named_at_the_end(suite):
    done, calls = suite("all.sh", "cuda")
    assert calls == [f"{name}.py --device cuda --out logs/benchmarks" for name in NAMES]
    assert done.returncode == 1 and done.stderr == "not whole: growth (exit status 3)\n"


@pytest.mark.parametrize("words", [(), ("cpu",)])
def test_the_cpu_leaves_out_what_growth_measures_too(suite, words):
    _, calls = suite("all.sh", *words)
    assert calls == [f"{name}.py --device cpu --out logs/benchmarks" for name in NAMES if name != "attention_memory"]


def test_attention_memory_is_measured_there_by_its_name(suite):
    done, calls = suite("all.sh", "cpu", "attention_memory")
    assert (done.returncode, calls) == (0, ["attention_memory.py --device cpu --out logs/benchmarks"])


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


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_make_bench_alone_writes_what_is_kept_under_the_name_of_the_machine(suite, device):
    results, pictures = f"benchmarks/results/a_{device}", f"docs/benchmarks/a_{device}"
    saves = {"SAVES": "decode_kernel.py", "SAVED": f"{results}/decode_kernel_{device}.json"}
    bench = ("--silent", "-o", SAMPLE, "bench", f"BENCH={device} decode_kernel")
    done, calls = suite("make", *bench, **saves)
    assert done.returncode == 0, done.stderr
    assert calls[:2] == [f"machine_name.py --device {device}", f"decode_kernel.py --device {device} --out {results}"]
    assert calls[2:] == [f"benchmark.py {saves['SAVED']} --out {pictures}/decode_kernel_{device}.png"]


def test_make_bench_measures_nothing_on_a_machine_without_a_name(suite):
    done, calls = suite("make", "--silent", "-o", SAMPLE, "bench", "BENCH=cuda", UNKNOWN="1")
    assert done.returncode != 0 and "error: no such device" in done.stderr
    assert calls == ["machine_name.py --device cuda"]


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
