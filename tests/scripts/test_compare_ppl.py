"""The table against numbers worked out by hand."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data.arguments import SAME_ARGUMENTS, SAME_STREAM_ARGUMENTS
from scripts import compare_ppl
from tests.utils.trials.trial_files import long_sums, token_sums, write_stream_trial, write_trial
from utils.errors import UserError
from utils.trials.nll_trials import load_trial, load_trials

# Positions 1..5 and 1..2: the buckets of 2 positions hold {1}, {2, 3}, {4, 5}.
VANILLA = [np.array([1.0, 2.0, 4.0, 6.0, 8.0]), np.array([3.0, 6.0])]
LAMBDA = [np.array([1.0, 2.0, 4.0, 2.0, 3.0]), np.array([3.0, 6.0])]


@pytest.fixture
def log_dirs(tmp_path):
    return [
        str(write_trial(tmp_path / "vanilla", VANILLA, pretraining_length=4, use_lambda_attention=False)),
        str(write_trial(tmp_path / "lambda", LAMBDA, pretraining_length=4, use_lambda_attention=True)),
    ]


def output_of(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["compare_ppl.py", *map(str, arguments)])
    compare_ppl.main()
    return capsys.readouterr().out


def test_the_whole_table(monkeypatch, capsys, log_dirs):
    assert (
        output_of(monkeypatch, capsys, *log_dirs, "--bucket", 2)
        == """\
         position  documents  vanilla   lambda
----------------------------------------------
              0-1          2   2.0000   2.0000
              2-3          2   4.0000   4.0000
----------- pre-training length 4 ------------
              4-5          1   7.0000   2.5000
----------------------------------------------
       all tokens          2   4.2857   3.0000
       perplexity               72.65    20.09
    scored tokens                   7        7
         tokens/s             1,234.5  1,234.5
peak memory (GiB)                1.50     1.50
vanilla: use_lambda_attention false
lambda: use_lambda_attention true
"""
    )


def test_trials_of_other_versions_are_marked(monkeypatch, capsys, log_dirs):
    for log_dir, release in zip(log_dirs, ("5.23.0", "5.24.0")):
        path = Path(log_dir) / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"versions": {"transformers": release}}))
    lines = output_of(monkeypatch, capsys, *log_dirs, "--bucket", 2).splitlines()
    assert lines[-2:] == [
        "vanilla: computed with transformers 5.23.0",
        "lambda: computed with transformers 5.24.0",
    ]


def test_markdown(monkeypatch, capsys, log_dirs):
    lines = output_of(
        monkeypatch, capsys, *log_dirs, "--bucket", 2, "--format", "markdown", "--labels", "a|b", "Λ"
    ).splitlines()
    assert lines[:6] == [
        "| position | documents | a\\|b | Λ |",
        "| ---: | ---: | ---: | ---: |",
        "| 0-1 | 2 | 2.0000 | 2.0000 |",
        "| 2-3 | 2 | 4.0000 | 4.0000 |",
        "| *pre-training length 4* | | | |",
        "| 4-5 | 1 | 7.0000 | 2.5000 |",
    ]
    assert lines[6].startswith("| all tokens | 2 | 4.2857 | 3.0000 |")


@pytest.mark.parametrize("bucket", [1, 2, 3, 5, 6, 7, 1024])
def test_buckets_of_any_size_average_their_tokens(log_dirs, bucket):
    trial = load_trial(log_dirs[0])
    edges = compare_ppl.bucket_edges(6, bucket)
    for index, nll in enumerate(compare_ppl.bucket_nll(trial, edges)):
        bounds = range(index * bucket, (index + 1) * bucket)
        tokens = [value for document in VANILLA for p, value in enumerate(document, start=1) if p in bounds]
        assert nll == pytest.approx(np.mean(tokens)) if tokens else np.isnan(nll)


@pytest.mark.parametrize("length, row", [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_the_mark_stands_before_the_first_bucket_past_the_length(log_dirs, length, row):
    rows = compare_ppl.table_rows(load_trials(log_dirs), 2, length)[2:]
    assert rows.index(f"pre-training length {length}") == row


def test_no_mark_beyond_the_text(log_dirs):
    assert not any("length" in row for row in compare_ppl.table_rows(load_trials(log_dirs), 2, 6))


def test_an_unknown_number_is_a_dash(monkeypatch, capsys, log_dirs):
    results = Path(log_dirs[0]) / "results.json"
    results.write_text('{"documents": 2, "tokens_per_second": null}')
    table = output_of(monkeypatch, capsys, *log_dirs, "--bucket", 1)
    assert "              0-0          0        -        -" in table
    assert "peak memory (GiB)                   -     1.50" in table
    assert "         tokens/s                   -  1,234.5" in table


def test_one_trial_is_a_table_too(monkeypatch, capsys, log_dirs):
    table = output_of(monkeypatch, capsys, log_dirs[0])
    assert table.splitlines()[0].split() == ["position", "documents", "vanilla"]


@pytest.mark.parametrize("name", SAME_ARGUMENTS)
def test_another_model_or_text_is_refused_by_name(tmp_path, log_dirs, name):
    other = write_trial(tmp_path / "other", LAMBDA, **{name: "another"})
    with pytest.raises(UserError, match=rf'differ in --{name} \(.* and "another"\)'):
        compare_ppl.check_comparable(load_trials([*log_dirs, str(other)]))


def test_another_text_under_the_same_arguments_is_refused(tmp_path, log_dirs):
    other = write_trial(tmp_path / "other", LAMBDA[:1])
    with pytest.raises(UserError, match=r"differ in the tokens they scored \(7 and 5\)"):
        compare_ppl.check_comparable(load_trials([log_dirs[0], str(other)]))


def test_force_shows_the_documents_of_each(monkeypatch, capsys, tmp_path, log_dirs):
    other = write_trial(tmp_path / "other", [np.array([1.0, 2.0])], dataset="pile")
    table = output_of(monkeypatch, capsys, log_dirs[0], other, "--bucket", 3, "--force").splitlines()
    assert table[0].split() == ["position", "documents", "(vanilla)", "documents", "(other)", "vanilla", "other"]
    assert table[2].split() == ["0-2", "2", "1", "3.0000", "1.5000"]
    assert table[3].split() == ["3-5", "1", "0", "6.0000", "-"]
    assert 'other: dataset "pile", max_length 3, use_lambda_attention null' in table


def test_the_script_runs_from_anywhere_and_refuses_in_one_line(tmp_path, log_dirs):
    command = [sys.executable, compare_ppl.__file__, *log_dirs]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "pre-training" not in done.stdout.split("all tokens")[1]
    other = str(write_trial(tmp_path / "other", LAMBDA, seed=3))
    done = subprocess.run([*command, other], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and "--seed" in done.stderr


# Positions 1..5: the buckets of 2 positions hold {1}, {2, 3}, {4, 5}.
STREAMS = [np.array([1.0, 2.0, 4.0, 6.0, 8.0]), np.array([3.0, 4.0, 6.0, 4.0, 3.0])]


def write_streams(folder, streams=STREAMS, **arguments):
    sums = [token_sums(stream) for stream in streams]
    return str(write_stream_trial(folder, sums, pretraining_length=4, **arguments))


def test_the_whole_table_of_streams(monkeypatch, capsys, tmp_path):
    one = write_streams(tmp_path / "one", STREAMS[:1])
    two = write_streams(tmp_path / "two", seed=3, save_steps=7)
    assert (
        output_of(monkeypatch, capsys, one, two, "--bucket", 2)
        == """\
         position      one              two
-------------------------------------------
              0-1   1.0000  2.0000 ± 1.4142
              2-3   3.0000  4.0000 ± 1.4142
---------- pre-training length 4 ----------
              4-5   7.0000  5.2500 ± 2.4749
-------------------------------------------
       all tokens   4.2000  4.1000 ± 0.1414
       perplexity    66.69            60.34
 streams (± s.d.)        1                2
    scored tokens        5               10
         tokens/s  1,234.5          1,234.5
peak memory (GiB)     1.50             1.50
one: seed 0, streams 1
two: seed 3, streams 2
"""
    )


def test_streams_in_markdown(monkeypatch, capsys, tmp_path):
    log_dir = write_streams(tmp_path / "two")
    lines = output_of(monkeypatch, capsys, log_dir, "--bucket", 4, "--format", "markdown").splitlines()
    assert lines[:4] == [
        "| position | two |",
        "| ---: | ---: |",
        "| 0-3 | 3.3333 ± 1.4142 |",
        "| *pre-training length 4* | |",
    ]


@pytest.mark.parametrize("length, row", [(1_000_000, 100_000), (200_000_000, 20_000_000), (16_384, 2000), (7, 1)])
def test_a_stream_has_at_most_ten_rows_unless_more_are_asked_for(monkeypatch, capsys, tmp_path, length, row):
    log_dir = write_stream_trial(tmp_path / "long", [long_sums(length, 0)])
    lines = output_of(monkeypatch, capsys, log_dir).splitlines()
    positions = [line.split()[0] for line in lines if line.split()[0][0].isdigit()]
    assert positions[0] == f"0-{row - 1:,}" and len(positions) == -(-length // row)


@pytest.mark.parametrize("bucket, fits", [(500, True), (1500, True), (10**9, True), (1024, False), (1, False)])
def test_a_row_of_a_stream_is_whole_buckets(monkeypatch, capsys, tmp_path, bucket, fits):
    log_dir = str(write_stream_trial(tmp_path / "long", [long_sums(1_000_000, 0)]))
    if fits:
        rows = compare_ppl.table_rows(load_trials([log_dir]), compare_ppl.choose_bucket(load_trials([log_dir]), bucket))
        assert rows[2][0] == f"0-{min(bucket, 1_000_000) - 1:,}"
    else:
        message = f"--bucket {bucket}: .*long holds its sums per 500 positions, give a multiple of that"
        with pytest.raises(UserError, match=message):
            output_of(monkeypatch, capsys, log_dir, "--bucket", bucket)


@pytest.mark.parametrize("name", SAME_STREAM_ARGUMENTS)
def test_streams_of_another_model_or_text_are_refused_by_name(tmp_path, name):
    one, other = write_streams(tmp_path / "one"), write_streams(tmp_path / "other", **{name: "another"})
    with pytest.raises(UserError, match=rf'differ in --{name} \(.* and "another"\)'):
        compare_ppl.check_comparable(load_trials([one, other]))


def test_streams_in_another_order_or_in_other_chunks_may_be_compared(tmp_path):
    one = write_streams(tmp_path / "one", max_length=4096)
    other = write_streams(tmp_path / "other", STREAMS[:1], seed=1, max_length=128_000)
    compare_ppl.check_comparable(load_trials([one, other]))


def test_force_sets_streams_of_other_lengths_side_by_side(monkeypatch, capsys, tmp_path):
    one = write_streams(tmp_path / "one")
    other = write_streams(tmp_path / "other", [stream[:3] for stream in STREAMS])
    table = output_of(monkeypatch, capsys, one, other, "--bucket", 2, "--force").splitlines()
    assert table[2].split() == ["0-1", *"2.0000 ± 1.4142".split() * 2]
    assert [row.split()[-1] for row in table if row.split()[0] == "4-5"] == ["-"]


def test_documents_and_a_stream_in_one_table_are_refused(monkeypatch, capsys, tmp_path, log_dirs):
    with pytest.raises(UserError, match="give trials of one kind"):
        output_of(monkeypatch, capsys, log_dirs[0], write_streams(tmp_path / "stream"))
