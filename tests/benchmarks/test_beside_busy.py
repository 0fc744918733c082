"""Attention beside a busy process: it is started and ended, and each method is measured alone and beside it."""

import time
from pathlib import Path

import pytest
import torch

from benchmarks import beside_busy
from benchmarks.measuring.shapes import SHAPES
from tests.benchmarks.test_prefill_kernel import SHAPE
from utils.errors import UserError


def test_a_core_is_busy_while_it_is_measured_and_not_after():
    with beside_busy.busy_process() as process:
        time.sleep(0.5)
        user = int((Path("/proc") / str(process.pid) / "stat").read_text().rsplit(")", 1)[1].split()[11])
        assert user > 0 and process.poll() is None
    assert process.poll() == 0


def test_a_row_for_each_method(monkeypatch):
    rows = beside_busy.measure(SHAPE, 128, torch.float32, 1, 1.0)
    names = ["Λ-attention", "Λ-attention, edges", "Λ-attention, blockwise", "Λ-attention, onednn", "dense causal"]
    assert [row["method"] for row in rows] == names
    for row in rows:
        assert row["times"] == row["beside_seconds"]["median"] / row["seconds"]["median"]
    header, *lines = (line for line in beside_busy.table(rows).splitlines() if line)
    assert "beside a busy process" in header and sum("SmolLM2-135M, float32" in line for line in lines) == 5


def test_the_whole_script_says_what_it_wrote(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(SHAPES, "smollm2", SHAPE)
    arguments = ["--lengths", "64", "--dtypes", "bfloat16", "--repeats", "1", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["beside_busy.py", *arguments])
    for name in beside_busy.SPINNING:
        monkeypatch.delenv(name, raising=False)
    beside_busy.main()
    assert (Path(tmp_path) / "beside_busy_cpu.json").is_file() and "wrote" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"])
def test_an_environment_that_has_threads_spin_otherwise_is_refused(name, monkeypatch):
    monkeypatch.setattr("sys.argv", ["beside_busy.py"])
    for other in beside_busy.SPINNING:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "0")
    with pytest.raises(UserError, match=f"{name} is set, and threads are to spin as they do by default: unset it"):
        beside_busy.main()


def test_an_unknown_shape_is_one_sentence(monkeypatch):
    monkeypatch.setattr("sys.argv", ["beside_busy.py", "--shapes", "other"])
    with pytest.raises(UserError, match="--shapes: invalid choice: 'other'"):
        beside_busy.main()
