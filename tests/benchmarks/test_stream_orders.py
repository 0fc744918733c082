"""Two orders of the same documents, in synthetic trials whose NLL is a known function of token and position."""

import json
import sys

import numpy as np
import pytest

from benchmarks import stream_orders
from benchmarks.measuring.stream_readings import Order, Reading, lay_out, load_order
from benchmarks.stream_orders import bucket_table, document_table, largest_excess, nll_elsewhere, trend
from data.token_stream import pass_order
from scripts.eval_infinite_ppl import parse_arguments
from tests.tiny_models import tiny_tokenizer
from utils.errors import UserError

LENGTHS = {"a": 400, "b": 300, "c": 500, "d": 250, "e": 350}
BASE = {name: np.random.default_rng(i).uniform(1, 5, size) for i, (name, size) in enumerate(LENGTHS.items())}
WARM_UP = 20
SEPARATOR = tiny_tokenizer()("\n\n", add_special_tokens=False)["input_ids"]


def order(names, length, drift, seed=0):
    """A stream of documents with one token before each: a token's NLL is its own, and drift(position) more."""
    readings = lay_out([(name, LENGTHS[name]) for name in names], first=1, separator=1, length=length)
    nll = np.full(length, 9.0)
    for reading in readings:
        nll[reading.start : reading.stop] = BASE[reading.document][: reading.stop - reading.start]
    nll += drift(np.arange(length))
    nll[0] = np.nan
    return Order("", seed, WARM_UP, nll.astype(np.float32), readings)


def flat(position):
    return 0 * position


def rising(position):
    return 1e-4 * position


def test_documents_are_laid_out_behind_what_separates_them():
    encoded = [("a", 3), ("empty", 0), ("b", 2), ("a", 3)]
    expected = [Reading("a", 1, 4, True), Reading("b", 6, 8, True), Reading("a", 10, 12, False)]
    assert lay_out(encoded, first=1, separator=2, length=12) == expected


def test_a_stream_that_ends_in_a_separator_holds_nothing_of_the_document_behind_it():
    assert lay_out([("a", 3), ("b", 2)], first=0, separator=2, length=4)[1] == Reading("b", 5, 5, False)


def test_the_text_explains_all_of_a_flat_stream():
    first, second = order("abcde", 1805, flat), order("edcba", 1805, flat)
    for rows in (bucket_table(first, second, 200), bucket_table(second, first, 200)):
        assert max(abs(row["excess"]) for row in rows) < 1e-6
        assert np.ptp([row["nll"] for row in rows]) > 0.1  # the text itself differs from bucket to bucket
    documents = document_table(first, second)
    assert [row["document"] for row in documents] == list("abcde")
    assert trend(documents)["slope_per_million"] == pytest.approx(0, abs=1e-6)


def test_a_rise_with_position_is_found_in_buckets_and_in_the_slope():
    first, second = order("abcde", 1805, rising), order("edcba", 1805, rising)
    documents = document_table(first, second)
    for row in documents:
        assert row["nll_difference"] == pytest.approx(1e-4 * row["later_by"], abs=1e-5)
    found = trend(documents)
    assert found["slope_per_million"] == pytest.approx(100, rel=1e-3)
    assert found["standard_error"] < 0.5
    tables = [bucket_table(first, second, 200), bucket_table(second, first, 200)]
    worst = largest_excess([first, second], tables)
    assert worst["start"] >= 1400 and worst["excess"] > 0.15


def test_a_constant_difference_between_two_precisions_is_no_excess():
    first, second = order("abcde", 1805, flat), order("edcba", 1805, lambda position: 0.3 + 0 * position)
    rows = bucket_table(second, first, 200)
    assert rows[0]["unexplained"] == pytest.approx(0.3, abs=1e-5)
    assert max(abs(row["excess"]) for row in rows) < 1e-5
    assert trend(document_table(first, second))["mean"] == pytest.approx(0.3, abs=1e-5)


def test_only_the_tokens_that_both_have_read_are_compared():
    first, second = order("abc", 900, flat), order("dca", 900, flat)  # c is cut off in the first, a in the second
    elsewhere = nll_elsewhere(first, second)
    known = ~np.isnan(elsewhere)
    shared = {"a": 900 - 1 - LENGTHS["d"] - 1 - LENGTHS["c"] - 1, "c": 900 - 1 - LENGTHS["a"] - 1 - LENGTHS["b"] - 1}
    expected = np.zeros(900, dtype=bool)
    for reading in (reading for reading in first.readings if reading.document in shared):
        expected[reading.start : reading.start + shared[reading.document]] = True
    expected[:WARM_UP] = False
    assert (known == expected).all()
    assert np.allclose(elsewhere[known], first.nll[known])
    assert document_table(first, second) == []
    rows = bucket_table(first, second, 300)
    assert rows[1]["excess"] is None or rows[1]["shared"] > 0


def test_buckets_without_common_text_are_left_out_of_the_verdict():
    first, second = order("ab", 650, flat), order("cb", 650, flat)
    rows = bucket_table(first, second, 200)
    assert rows[0]["unexplained"] is None and rows[0]["shared"] == 0 and rows[0]["nll"] > 0
    assert rows[2]["excess"] == pytest.approx(0, abs=1e-6)


def test_warm_up_tokens_of_either_stream_do_not_count():
    def high_at_first(position):
        return 50.0 * (position < WARM_UP)

    first, second = order("abcde", 1805, high_at_first), order("edcba", 1805, high_at_first)
    assert max(abs(row["excess"]) for row in bucket_table(first, second, 200)) < 1e-6
    assert max(abs(row["nll_difference"]) for row in document_table(first, second)) < 1e-6


def test_the_standard_error_is_that_of_least_squares():
    rows = [{"later_by": x, "nll_difference": y} for x, y in ((-1e6, 0.1), (0, 0.4), (1e6, 0.1), (2e6, 0.6))]
    found = trend(rows)
    assert found["slope_per_million"] == pytest.approx(0.12)
    assert found["standard_error"] == pytest.approx(np.sqrt((0.18 - 0.12**2 * 5) / 2 / 5))
    assert trend(rows[:2])["slope_per_million"] is None and trend([])["mean"] is None


@pytest.fixture
def write_trial(tiny_llama_dir, tmp_path, monkeypatch):
    """Writes a trial over seven texts, as eval_infinite_ppl.py leaves it, with NLL from `order` of this test."""
    (tmp_path / "texts").mkdir()
    tokenizer = tiny_tokenizer()
    ids = {}
    for index in range(7):
        text = f"text {index}: the cat and the hat. " * (6 + index)
        (tmp_path / "texts" / f"{index}.txt").write_text(text)
        ids[f"{index}.txt"] = tokenizer(text, add_special_tokens=False)["input_ids"]

    def write(seed, drift=flat, length=1500, flags=()):
        folder = tmp_path / f"seed{seed}"
        words = f"--model {tiny_llama_dir} --dataset {tmp_path / 'texts'} --seed {seed} --streaming_length {length}"
        words += f" --use_lambda_attention --local_branch {WARM_UP} --save_token_nll --log_dir {folder}"
        monkeypatch.setattr(sys, "argv", ["eval_infinite_ppl.py", *words.split(), *flags])
        given = parse_arguments()
        names, stream, nll = [], [], []  # the tokenizer puts nothing before a text
        while len(stream) < length:
            for place in pass_order(len(ids), seed, len(names) // len(ids)):
                if names and len(stream) < length:
                    stream += SEPARATOR
                    nll += [9.0] * len(SEPARATOR)
                if len(stream) >= length:
                    break
                names.append(f"{place}.txt")
                stream += ids[names[-1]]
                nll += [*np.random.default_rng(place).uniform(1, 5, len(ids[names[-1]]))]
        nll = (np.array(nll[:length]) + drift(np.arange(length))).astype("<f4")
        folder.mkdir()
        nll[1:].tofile(folder / "token_nll_0000.f32")
        config = {
            "arguments": vars(given),
            "model": {"name": "tiny", "tokenizer": "tiny", "parameters": 1},
            "lambda_attention": {"local_branch": WARM_UP},
            "corpus": {"name": "texts", "documents": len(ids)},
        }
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "results.json").write_text(json.dumps({"streams": [{"documents": len(names)}]}))
        return folder, stream[:length], ids

    return write


def run_main_of_script(monkeypatch, *words):
    """What the script saves, without its writing it."""
    saved = {}

    def save(folder, name, device, results):
        saved.update(results)
        return f"{name}_{device}.json"

    monkeypatch.setattr(stream_orders, "save_results", save)
    monkeypatch.setattr(sys, "argv", ["stream_orders.py", *map(str, words)])
    stream_orders.main()
    return saved


def test_the_documents_of_a_trial_are_found_again(write_trial):
    folder, stream, ids = write_trial(seed=3)
    found, _ = load_order(str(folder))
    assert len(found.readings) > len(ids)  # into the second pass
    for reading in found.readings:
        assert stream[reading.start : reading.stop] == ids[reading.document][: reading.stop - reading.start]
        assert reading.complete == (reading.stop - reading.start == len(ids[reading.document]))


def test_two_flat_trials_are_within_the_limit(write_trial, monkeypatch, capsys):
    folders = [write_trial(seed)[0] for seed in (0, 1)]
    saved = run_main_of_script(monkeypatch, *folders, "--bucket", 250)
    assert saved["largest_excess"]["excess"] == pytest.approx(0, abs=1e-5)
    assert saved["token_correlation"] == pytest.approx(1)
    assert saved["trend"]["documents"] >= 6 and len(saved["buckets"]["seed_0"]) == 6
    printed = capsys.readouterr().out
    assert printed.count("1,250-       1,499") == 2 and "within 0.15" in printed and "NOT" not in printed


def test_a_rise_in_one_trial_is_said_plainly(write_trial, monkeypatch, capsys):
    folders = [write_trial(0)[0], write_trial(1, drift=lambda position: 0.4 * (position >= 1000))[0]]
    saved = run_main_of_script(monkeypatch, *folders, "--bucket", 250)
    assert saved["largest_excess"]["seed"] == 1 and saved["largest_excess"]["start"] >= 1000
    assert saved["largest_excess"]["excess"] == pytest.approx(0.4, abs=0.01)
    assert "NOT within 0.15" in capsys.readouterr().out


@pytest.mark.parametrize(
    "damage, sentence",
    [
        (lambda folder: (folder / "results.json").unlink(), "holds no finished trial"),
        (lambda folder: (folder / "token_nll_0000.f32").unlink(), "run the trial with --save_token_nll"),
        (lambda folder: (folder / "token_nll_0000.f32").write_bytes(bytes(40)), "holds the NLL of 10 tokens"),
        (lambda folder: (folder.parent / "texts" / "0.txt").write_text("long " * 900), "have changed since"),
    ],
)
def test_a_trial_that_cannot_be_read_is_refused(write_trial, damage, sentence):
    folder, *_ = write_trial(seed=0)
    damage(folder)
    with pytest.raises(UserError, match=sentence):
        load_order(str(folder))


def test_trials_that_cannot_be_compared_are_refused(write_trial, monkeypatch):
    one, *_ = write_trial(seed=0)
    with pytest.raises(UserError, match="have the same --seed 0"):
        run_main_of_script(monkeypatch, one, one)
    other, *_ = write_trial(seed=1, flags=["--start_data_from", "0", "--text_field", "body"])
    with pytest.raises(UserError, match="differ in --text_field: 'text' and 'body'"):
        run_main_of_script(monkeypatch, one, other)
