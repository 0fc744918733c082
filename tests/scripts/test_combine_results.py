"""Trials in one table and shards in one trial, from results per example that are known."""

import csv
import io
import json
import re

import numpy as np
import pytest

from scripts import combine_results
from scripts.combining.tables import shown_rows
from tests.scripts import example_trials as trials
from tests.scripts.running import run_script
from utils.errors import UserError
from utils.trials.nll_trials import load_trial

LAMBDA = {"local_branch": 8, "global_branch": 2, "limit_distance": 8, "top_k": None}


@pytest.fixture
def combine(monkeypatch, capsys):
    """Call the script; what it printed."""

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["combine_results.py", *map(str, arguments)])
        combine_results.main()
        return capsys.readouterr().out

    return call


@pytest.fixture
def records(combine):
    """Call the script for its records."""
    return lambda *arguments: json.loads(combine(*arguments, "--format", "json"))


@pytest.fixture
def shards(tmp_path):
    """Three shards of one trial of seven examples, one of which failed."""
    return [
        trials.write_task_trial(tmp_path / "c", [1], start=6, most=4),
        trials.write_task_trial(tmp_path / "a", [1, 0, None, 1], start=0, most=4),
        trials.write_task_trial(tmp_path / "b", [0, 1], start=4, most=2, batch_size=2),
    ]


def refusal(combine, *arguments):
    with pytest.raises(UserError) as error:
        combine(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_trials_of_other_versions_are_marked(records, tmp_path):
    log_dirs = [trials.write_task_trial(tmp_path / name, [1, 0]) for name in "ab"]
    assert "versions" not in records(*log_dirs, "--no_join")[0]
    path = log_dirs[0] / "config.json"
    began, went_on = ({"versions": {"torch": release}} for release in ("2.11.0", "2.13.0"))
    trials.write_json(path, trials.read_json(path) | began | {"continued": [went_on]})
    assert [record["versions"] for record in records(*log_dirs, "--no_join")] == ["torch 2.11.0 then 2.13.0", ""]


def test_the_whole_table_of_every_kind_of_trial(combine, tmp_path):
    log_dirs = [
        trials.write_task_trial(tmp_path / "passkey", [1, 0, 1, None, 1]),
        trials.write_nll_trial(tmp_path / "plays", [[1, 2, 3], [4]], attention=LAMBDA),
        trials.write_stream_trial(tmp_path / "stream", [3.0]),
    ]
    assert (
        combine(*log_dirs)
        == """\
  trial       method  model               task    metric  length  n                    score  failed
----------------------------------------------------------------------------------------------------
passkey      vanilla   tiny  passkey_retrieval  accuracy   1,004  4  0.7500 [0.3006, 0.9544]       1
  plays  lm_infinite   tiny              plays       nll       4  2          2.5000 ± 1.0588       0
 stream      vanilla   tiny              plays       nll   1,000  1                   3.0000       0
"""
    )


def test_markdown_and_csv(combine, tmp_path):
    log_dirs = [
        trials.write_task_trial(tmp_path / "a", [1, 0]),
        trials.write_task_trial(tmp_path / "b", [None], seed=3),
    ]
    lines = combine(*log_dirs, "--labels", "x|y", "Λ", "--format", "markdown").splitlines()
    assert lines[0] == "| trial | method | model | task | metric | length | n | score | failed |"
    assert lines[1] == "|" + " ---: |" * 9
    assert lines[2].startswith(
        "| x\\|y | vanilla | tiny | passkey_retrieval | accuracy | 1,001 | 2 | 0.5000 [0.0945, 0.9055] | 0 |"
    )
    assert lines[3] == "| Λ | vanilla | tiny | passkey_retrieval | accuracy | - | 0 | - | 1 |"
    rows = list(csv.DictReader(io.StringIO(combine(*log_dirs, "--format", "csv"))))
    assert [row["score"] for row in rows] == ["0.5", ""]
    assert float(rows[0]["score_standard_error"]) == pytest.approx(0.5)
    assert float(rows[0]["score_interval_low"]) == pytest.approx(0.0945, abs=5e-5)


def test_six_of_six_are_not_certain(records, tmp_path):
    [record] = records(trials.write_task_trial(tmp_path / "a", [1, 1, None, 1, 1, 1, 1]))
    assert (record["score"], record["n"], record["failed"]) == (1.0, 6, 1)
    assert shown_rows([record])[2][7] == "1.0000 [0.6097, 1.0000]"


def test_scores_of_100(records, tmp_path):
    [record] = records(trials.write_task_trial(tmp_path / "a", [1, 0.5, 0], percent=True))
    assert (record["metric"], record["score"]) == ("accuracy (of 100)", 50.0)
    assert record["score_standard_error"] == pytest.approx(100 * 0.5 / 3**0.5)


def test_nll_is_averaged_over_tokens_and_its_error_taken_over_documents(records, tmp_path):
    draw = np.random.default_rng(0)
    documents = [draw.normal(mean, 0.1, size=100) for mean in draw.normal(3, 0.5, size=60)]
    [record] = records(trials.write_nll_trial(tmp_path / "a", [*documents, np.full(900, 7.0)]))
    assert record["score"] == pytest.approx((sum(map(sum, documents)) + 6300) / 6900)
    [record] = records(trials.write_nll_trial(tmp_path / "b", documents))
    error = np.std([document.mean() for document in documents]) / 60**0.5
    assert record["score_standard_error"] == pytest.approx(error, rel=0.1)


def test_streams_with_their_spread(records, tmp_path):
    [record] = records(trials.write_stream_trial(tmp_path / "a", [3.0, 4.0], length=500))
    assert (record["score"], record["length"], record["n"]) == (3.5, 500, 2)
    assert record["score_standard_error"] == pytest.approx(0.5, rel=0.05)


def test_generation_has_a_row_for_each_position_and_metric(records, tmp_path):
    documents = [{100: ("a b c d", "a b c d"), 200: ("x", "y")}, {100: (None, "a b")}]
    found = records(trials.write_generation_trial(tmp_path / "a", documents))
    assert len(found) == 10
    assert [(row["length"], row["n"], row["failed"], row["score"]) for row in found if row["metric"] == "bleu"] == [
        (100, 1, 1, 1.0),
        (200, 1, 0, 0.0),
    ]


@pytest.mark.parametrize(
    "attention, arguments, name",
    [
        (None, {}, "vanilla"),
        (None, {"runtime_truncation": 64}, "truncate"),
        (None, {"max_length": 64, "truncation_side": "left"}, "vanilla"),
        (None, {"rope_scaling": "dynamic"}, "dynamic_ntk"),
        (None, {"rope_scaling": "linear"}, "pi"),
        (None, {"rope_scaling": None, "remap_positions": "dca"}, "dca"),
        (LAMBDA, {"top_k_attention": None, "sink_positions": "text"}, "lm_infinite"),
        (LAMBDA | {"global_branch": 0}, {}, "window"),
        (LAMBDA | {"limit_distance": "none"}, {"sink_positions": "text"}, "lambda_mask"),
        (LAMBDA | {"limit_distance": "none"}, {"sink_positions": "cache"}, "streaming_llm"),
        (LAMBDA, {"top_k_attention": 5}, "lm_infinite_top_k"),
        (LAMBDA, {"sink_positions": "cache"}, "other"),
        (LAMBDA, {"method": "streaming_llm"}, "streaming_llm"),
    ],
)
def test_methods_by_name_or_by_their_flags(records, tmp_path, attention, arguments, name):
    [record] = records(trials.write_task_trial(tmp_path / "a", [1], attention=attention, **arguments))
    assert record["method"] == name


def test_shards_in_any_order_are_one_trial(records, shards):
    [record] = records(*shards)
    assert (record["n"], record["failed"], record["score"]) == (6, 1, 4 / 6)
    assert record["trial"] == "a (+2)"
    assert sorted(row["n"] for row in records(*shards, "--no_join")) == [1, 2, 3]


def test_trials_of_other_arguments_are_no_shards(records, tmp_path, shards):
    other = trials.write_task_trial(tmp_path / "other", [1, 1], start=2, seed=1)
    assert [row["trial"] for row in records(other, *shards)] == ["other", "a (+2)"]
    assert [row["trial"] for row in records(other, *shards, "--labels", "x", "y")] == ["x", "y"]


def test_folders_of_one_name_are_told_apart_by_those_above(records, tmp_path):
    log_dirs = [trials.write_task_trial(tmp_path / name / "run", [1], model=name) for name in "ab"]
    assert [row["trial"] for row in records(*log_dirs)] == ["a/run", "b/run"]


def test_an_overlap_is_named(combine, tmp_path, shards):
    other = trials.write_task_trial(tmp_path / "more", [1, 1], start=5)
    sentence = refusal(combine, *shards, other)
    assert f"document 5 is in both {shards[2]} and {other}" in sentence and "--no_join" in sentence
    assert combine(*shards, other, "--no_join").count("passkey") == 4


def test_a_gap_is_named(combine, tmp_path, shards):
    assert f"documents 4 to 5 are in none of the log dirs, between {shards[1]} and {shards[0]}" in refusal(
        combine, *shards[:2]
    )
    far = trials.write_task_trial(tmp_path / "far", [1], start=8)
    assert "document 7 is in none" in refusal(combine, *shards, far)


def test_merged_shards_are_the_trial_run_as_one(combine, records, tmp_path, shards):
    whole = trials.write_task_trial(tmp_path / "whole", [1, 0, None, 1, 0, 1, 1], most=10)
    merged = tmp_path / "new" / "merged"
    printed = combine(*shards, "--merge", merged)
    assert "0.6667" in printed and "a (+2)" in printed
    checksums = re.compile(r', "checksum": "[0-9a-f:]+"')
    assert checksums.sub("", (merged / "samples.jsonl").read_text()) == (whole / "samples.jsonl").read_text()
    results = trials.read_json(merged / "results.json")
    assert (results["task"], results["score"], results["failed"]) == ("passkey_retrieval", 4 / 6, 1)
    assert (results["seconds"], results["peak_memory_bytes"], results["device"]) == (3.5, 100, "cpu")
    assert results["metric"] == "accuracy"
    config = trials.read_json(merged / "config.json")
    assert config["corpus"] == {"name": "plays", "documents": 7}
    assert [config["arguments"][name] for name in ("start_data_from", "max_data_num", "log_dir")] == [0, 7, str(merged)]
    assert [shard["log_dir"] for shard in config["shards"]] == [str(shards[place]) for place in (1, 2, 0)]
    [from_merged], [from_whole] = records(merged), records(whole)
    assert from_merged | {"trial": "whole"} == from_whole
    assert not list(merged.parent.glob("*.partial"))


def test_merged_perplexity_can_be_plotted_and_resumed(combine, tmp_path):
    documents = [[1, 2, 3], [4, 5], [6, 7, 8, 9]]
    whole = trials.write_nll_trial(tmp_path / "whole", documents)
    parts = [
        trials.write_nll_trial(tmp_path / "b", documents[2:], start=2),
        trials.write_nll_trial(tmp_path / "a", documents[:2], most=2),
    ]
    merged = tmp_path / "merged"
    combine(*parts, "--merge", merged)
    found, expected = load_trial(merged), load_trial(whole)
    for name in ("count", "sum", "sum_squares"):
        np.testing.assert_array_equal(found.arrays[name], expected.arrays[name])
    assert found.results["nll"] == pytest.approx(45 / 9) and found.results["documents"] == 3
    assert found.results["buckets"][0]["tokens"] == 9 and found.results["tokens_per_second"] == 9 / 4
    with np.load(merged / "nll.npz", allow_pickle=False) as arrays:
        assert json.loads(str(arrays["state"]))["documents"] == [0, 1, 2]
    assert found.arguments["max_data_num"] is None


def test_merged_generation(combine, tmp_path):
    documents = [{10: ("a b c d", "a b c d")}, {10: ("a b c d e", "a b c d f"), 20: ("x", "y")}]
    parts = [trials.write_generation_trial(tmp_path / name, [documents[i]], start=i) for i, name in enumerate("ab")]
    combine(*parts, "--merge", tmp_path / "merged")
    results = trials.read_json(tmp_path / "merged" / "results.json")
    assert (results["documents"], results["generated"], results["seconds"]) == (2, 27, 4.5)
    positions = results["positions"]
    assert [row["position"] for row in positions] == [10, 20]
    assert positions[0]["bleu"] == pytest.approx((8 / 9 * 6 / 7 * 4 / 5 * 2 / 3) ** 0.25)


def test_merging_what_are_no_shards_names_what_differs(combine, tmp_path, shards):
    other = trials.write_task_trial(tmp_path / "other", [1], start=7, attention=LAMBDA, local_branch=8)
    sentence = refusal(combine, *shards, other, "--merge", tmp_path / "merged")
    assert (
        "--local_branch is null and 8; --use_lambda_attention is false and true; lambda" in sentence
        and "--start_data_from" in sentence
    )
    assert not (tmp_path / "merged").exists()


def test_a_merge_replaces_nothing_and_leaves_nothing_half_written(combine, tmp_path, shards):
    assert "holds something already" in refusal(combine, *shards, "--merge", shards[0])
    parts = [trials.write_nll_trial(tmp_path / f"nll{i}", [[1, 2]], start=i) for i in range(2)]
    (parts[1] / "nll.npz").write_text("damaged")
    assert "nll.npz cannot be read" in refusal(combine, *parts, "--merge", tmp_path / "merged")
    assert not list(tmp_path.glob("merged*"))
    stream = trials.write_stream_trial(tmp_path / "stream", [3.0])
    assert "eval_infinite_ppl, which has no shards" in refusal(combine, stream, "--merge", tmp_path / "merged")
    (tmp_path / "file").write_text("")
    assert "cannot be written (Not a directory)" in refusal(combine, *shards, "--merge", tmp_path / "file" / "merged")
    assert "--no_join contradicts --merge" in refusal(combine, *shards, "--no_join", "--merge", tmp_path / "merged")


@pytest.mark.parametrize(
    "name, start", [("t.md", "| trial"), ("t.csv", "trial,"), ("t.json", "["), ("t.txt", "trial ")]
)
def test_the_table_is_written_as_the_files_name_says(combine, tmp_path, shards, name, start):
    printed = combine(*shards, "--out", tmp_path / name)
    assert (tmp_path / name).read_text() == printed and printed.lstrip().startswith(start)
    assert combine(*shards, "--out", tmp_path / name, "--format", "csv").startswith("trial,")


def test_out_must_be_a_file_of_its_own(combine, tmp_path, shards):
    assert "--out" in refusal(combine, *shards, "--out", tmp_path)
    assert "--out" in refusal(combine, *shards, "--out", tmp_path / "missing" / "table.md")
    assert "a file of that trial" in refusal(combine, *shards, "--out", shards[0] / "results.json")


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"score": 1.5}, "line 2 has 'score' 1.5, which must be from 0 to 1"),
        ({"score": float("nan")}, "line 2 has 'score' NaN, which must be a number or null"),
        ({"score": "high"}, "line 2 has 'score' \"high\", which must be a number or null"),
        ({"score": None}, "line 2 must have either 'score' or 'error', the other one null"),
        ({"targets": "12345"}, "line 2 has 'targets' \"12345\", which must be a list of texts"),
        ({"length": None}, "line 2 has 'length' null, which must be a whole number"),
        ({"task": "qasper"}, "holds examples of passkey_retrieval and qasper"),
        ({"index": 0}, "has document 0 twice"),
        ({"index": 7}, "has document 7, which config.json does not select"),
    ],
)
def test_wrong_fields_are_named_with_their_line(combine, tmp_path, change, sentence):
    log_dir = trials.write_task_trial(tmp_path / "a", [1, 1, 0])
    lines = [trials.task_sample(index, 1) for index in range(3)]
    trials.write_lines(log_dir / "samples.jsonl", [lines[0], lines[1] | change, lines[2]])
    assert sentence in refusal(combine, log_dir)


def test_missing_fields_and_lines_are_named(combine, tmp_path):
    log_dir = trials.write_task_trial(tmp_path / "a", [1, 1])
    samples = log_dir / "samples.jsonl"
    lines = samples.read_text().splitlines()
    samples.write_text(lines[0] + "\n" + lines[1][:40])
    assert "samples.jsonl line 2 is no JSON object" in refusal(combine, log_dir)
    samples.write_text(lines[0] + "\n" + lines[1].replace("targets", "answers"))
    assert "line 2 lacks 'targets', which must be a list of texts" in refusal(combine, log_dir)
    samples.write_text(lines[0] + "\n")
    assert "has 1 lines where results.json counts 2" in refusal(combine, log_dir)
    samples.unlink()
    assert "samples.jsonl cannot be read" in refusal(combine, log_dir)


@pytest.mark.parametrize(
    "name, content, sentence",
    [
        ("results.json", None, "has no results.json: the trial is not finished"),
        ("config.json", None, "has no config.json"),
        ("config.json", {"script": "eval_downstream_tasks"}, "holds no arguments"),
        ("config.json", {"script": "other", "arguments": {}}, "is of the script 'other': give trials of eval_down"),
        ("config.json", {"script": "eval_generation", "arguments": {}, "model": None}, "holds no name of a model"),
        (
            "config.json",
            {"script": "eval_generation", "arguments": {}, "model": {"name": "x"}, "corpus": {"name": "y"}},
            "holds no name and number of documents of a corpus",
        ),
        ("results.json", {"examples": 3}, "has 2 lines where results.json counts 3"),
    ],
)
def test_a_log_dir_that_is_no_finished_trial(combine, tmp_path, name, content, sentence):
    log_dir = trials.write_task_trial(tmp_path / "a", [1, 1])
    (log_dir / name).unlink()
    if content is not None:
        trials.write_json(log_dir / name, content)
    assert sentence in refusal(combine, log_dir)


def test_other_bad_input(combine, tmp_path, shards):
    assert "is not a folder" in refusal(combine, tmp_path / "missing")
    assert "is given twice" in refusal(combine, shards[0], f"{shards[0]}/")
    assert "--labels: 2 given for 1 trials" in refusal(combine, *shards, "--labels", "a", "b")
    stream = trials.write_stream_trial(tmp_path / "stream", [3.0])
    trials.write_json(stream / "results.json", {"streams": [{"nll": 3.0}], "streaming_length": 9})
    assert "holds no streaming_length and streams" in refusal(combine, stream)


def test_as_a_user_calls_it(tmp_path, shards):
    done = run_script("combine_results", *shards, "--out", tmp_path / "table.md")
    assert done.returncode == 0 and done.stdout == (tmp_path / "table.md").read_text()
    done = run_script("combine_results", *shards[:2])
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: documents 4 to 5 are in none") and done.stderr.count("\n") == 1


def test_rows_are_sorted_by_length_whatever_the_order_of_the_log_dirs(records, tmp_path):
    folders = [
        trials.write_trial(
            tmp_path / str(length),
            "eval_downstream_tasks",
            [trials.task_sample(0, 1.0, length=length)],
            {"examples": 1},
        )
        for length in (16384, 2048, 4096)
    ]
    assert [row["length"] for row in records(*folders, "--no_join")] == [2048, 4096, 16384]


def test_methods_by_lengths(combine, records, tmp_path):
    """The lengths that were asked for, not those of the prompts; what was not run is a dash."""
    runs = {"vanilla": {2048: [1, 0], 512: [1, 1]}, "lm_infinite": {2048: [1, 1]}}
    log_dirs = [
        trials.write_task_trial(
            tmp_path / f"{method}{length}",
            scores,
            method=method,
            max_length=length,
            attention=LAMBDA if method == "lm_infinite" else None,
        )
        for method, lengths in runs.items()
        for length, scores in lengths.items()
    ]
    found = records(*log_dirs, "--pivot")
    assert [(row["method"], row["512"], row["2,048"]) for row in found] == [
        ("vanilla", 1.0, 0.5),
        ("lm_infinite", None, 1.0),
    ]
    assert found[0]["2,048_interval_low"] == pytest.approx(0.0945, abs=5e-5)
    lines = combine(*log_dirs, "--pivot", "--format", "latex").splitlines()
    assert lines[:3] == [
        r"\begin{tabular}{llllrr}",
        r"\toprule",
        r"model & task & metric & method & 512 & 2,048 \\",
    ]
    assert r"tiny & passkey\_retrieval & accuracy & lm\_infinite & - & 1.0000 [0.3424, 1.0000] \\" in lines
    said = refusal(combine, *log_dirs, trials.write_task_trial(tmp_path / "b", [1], max_length=512, seed=3), "--pivot")
    assert said.endswith("vanilla512 and b are both vanilla at 512 tokens of passkey_retrieval: leave one of them out")
