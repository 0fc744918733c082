"""The cost of one sequence over ranks: bytes as the plan of ranks has them, and the whole script on tiny stretches."""

import json
import sys

import pytest

from benchmarks import sequence_parallel
from benchmarks.measuring.sequence_cost import H100_RATE, LLAMA2_7B, NVLINK, Links, Work, estimate, on_paper, sent_by
from models.attention.sequence.stretches import Stretches

TINY = Work("tiny", 2, 4, 2, 8, local_branch=8, global_branch=3, weights=1e4, itemsize=4)


@pytest.mark.parametrize("lengths", [[20, 20], [5, 5, 5, 5], [1, 0, 30, 2], [0, 0, 1]])
@pytest.mark.parametrize("before", [0, 2, 50])
def test_bytes_counted_token_by_token_are_those_of_the_plan(lengths, before):
    for rank in range(len(lengths)):
        plan, tokens = Stretches(rank, before, tuple(lengths)), 0
        for other in range(len(lengths)):
            pieces = [*plan.window_of(other, 8), *plan.first_tokens(3)] if other != rank else []
            tokens += sum(piece.last - piece.first for piece in pieces if piece.source == rank)
        assert sent_by(TINY, lengths, before, rank) == tokens * 2 * 2 * 8 * 4


def test_a_slower_link_costs_time_only_where_attention_does_not_hide_it():
    slow = Links(latency=0.0, bandwidth=1e9, agreement=0.0)
    long, short = (estimate(LLAMA2_7B, 1e9, 64, stretch, H100_RATE, slow) for stretch in (2**20, 4096))
    assert long.efficiency > 0.99 > 0.3 > short.efficiency
    assert estimate(LLAMA2_7B, 1e9, 8, 65_536, H100_RATE, NVLINK).efficiency > 0.99


def test_the_paper_estimate_is_that_of_one_gpu_divided():
    one = estimate(LLAMA2_7B, 2e8, 1, 65_536, H100_RATE, NVLINK)
    assert one.seconds / 3600 == pytest.approx(2.16, abs=0.05)
    assert len(on_paper()) == 2 * 3 * 5 and all(row["efficiency"] <= 1 for row in on_paper())


def test_the_whole_script(monkeypatch, tmp_path, capsys):
    flags = ["--out", str(tmp_path), "--stretches", "64", "--layers", "1", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", ["benchmarks/sequence_parallel.py", *flags])
    sequence_parallel.main()
    (row,) = json.loads((tmp_path / "sequence_parallel_cpu.json").read_text())["rows"]
    assert row["bytes_sent_per_layer"] == row["bytes_by_formula"] == [64 * 3 * 64 * 2 * 4, 128 * 3 * 64 * 2 * 4]
    assert set(row["seconds"]) == {"one rank", "one sequence", "a sequence each"}
    assert "efficiency" in capsys.readouterr().out
