"""The pictures of examples: scores and costs by length, how trials are joined, and bad input."""

import sys

import numpy as np
import pytest

from data.tasks.prompt import PromptEncoder
from data.tasks.registry import get_task
from data.tasks.task import TaskRequest, open_examples
from scripts import eval_downstream_tasks
from tests.scripts.example_trials import task_sample, write_lines, write_nll_trial, write_task_trial
from tests.tiny_models import tiny_tokenizer
from tests.visualization.example_files import lambda_flags, write_generation, write_lengths
from tests.visualization.pictures import assert_nothing_overlaps, legend_labels, run_in_process
from utils.bootstrap import weighted_mean
from utils.errors import UserError
from visualization import cost_by_length, score_by_length, score_heatmap
from visualization.drawing.methods import group_starts, load_methods, mean_lengths
from visualization.drawing.style import paper_style, save_figure

SCRIPTS = (score_by_length, score_heatmap, cost_by_length)
LENGTHS = (2000, 4000, 16000)


def fails_beyond(end):
    """Half of the answers beyond `end` tokens are wrong: the deeper ones."""
    return lambda length, depth: float(length <= end or depth < 0.5)


@pytest.fixture
def log_dirs(tmp_path):
    """Two methods at three lengths each, a trial for a length."""
    return [
        str(
            write_lengths(
                tmp_path / f"{name}-{length}", [length - 9, length], score=fails_beyond(end), max_length=length, **flags
            )
        )
        for name, end, flags in (("vanilla", 8192, {}), ("lambda", 10**6, lambda_flags()))
        for length in LENGTHS
    ]


def test_trials_of_a_method_are_one_and_so_are_log_dirs_of_one_label(log_dirs):
    methods = load_methods(log_dirs)
    assert [(method.label, len(method.trials), method.length) for method in methods] == [
        ("vanilla", 3, 16000),
        ("lm_infinite", 3, 16000),
    ]
    methods = load_methods(log_dirs, ["a", "b", "b", "Λ", "Λ", "Λ"])
    assert [(method.label, len(method.trials)) for method in methods] == [("a", 1), ("b", 2), ("Λ", 3)]


def test_lengths_are_grouped_alike_for_all_methods(log_dirs, tmp_path):
    methods = load_methods(log_dirs)
    assert group_starts(methods).tolist() == [1991, 3991, 15991]
    assert mean_lengths(methods, group_starts(methods)).tolist() == [1995.5, 3995.5, 15995.5]
    many = load_methods([str(write_lengths(tmp_path / "many", range(1000, 9000, 50)))])
    assert 6 < len(group_starts(many)) <= 12


def test_trials_of_the_script_itself_are_drawn(tiny_tokenizer_dir, tmp_path, monkeypatch):
    """A model that always says the first example's key: one answer in three is right."""
    flags = ("--model", "constant_model", "--tokenizer_path", tiny_tokenizer_dir, "--dataset", "passkey_retrieval")
    request = TaskRequest("passkey_retrieval", PromptEncoder(tiny_tokenizer()).count, 600, num_samples=3)
    key = open_examples(get_task("passkey_retrieval"), request)[0].targets[0]
    for length in (600, 900):
        words = (*flags, "--max_length", length, "--num_samples", 3, "--constant_answer", key, "--silent")
        words = (*words, "--log_dir", tmp_path / str(length))
        monkeypatch.setattr(sys, "argv", ["scripts/eval_downstream_tasks.py", *map(str, words)])
        eval_downstream_tasks.main()
    log_dirs = [str(tmp_path / str(length)) for length in (600, 900)]
    for script in SCRIPTS:
        picture = tmp_path / f"{script.__name__}.png"
        run_in_process(monkeypatch, script, *log_dirs, "--out", picture)
        assert picture.stat().st_size > 5000


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_script_draws_every_format_and_nothing_overlaps(script, monkeypatch, log_dirs, tmp_path):
    with paper_style():
        figure = script.draw(load_methods(log_dirs), title="$5 of \\frac")
        save_figure(figure, [tmp_path / "picture.png"])
        assert_nothing_overlaps(figure)
    outputs = [tmp_path / f"picture.{suffix}" for suffix in ("pdf", "svg")]
    run_in_process(monkeypatch, script, *log_dirs, "--out", *outputs)
    assert outputs[0].read_bytes().startswith(b"%PDF-") and b"<svg" in outputs[1].read_bytes()
    assert legend_labels(figure)[-1] == "pre-training length 8,192"


def test_scores_and_their_errors_are_those_of_the_examples(log_dirs):
    methods = load_methods(log_dirs)
    axes = score_by_length.draw(methods).axes[0]
    vanilla, infinite = axes.containers
    assert vanilla.lines[0].get_ydata().tolist() == pytest.approx([1, 1, 1 / 3])
    assert infinite.lines[0].get_ydata().tolist() == [1, 1, 1]
    low, high = vanilla.lines[2][0].get_segments()[2][:, 1]
    error = weighted_mean([1.0, 0.0, 0.0] * 2)[1]
    assert (high - low) / 2 == pytest.approx(error) and error > 0.1
    assert axes.get_xscale() == "log" and axes.get_title() == "Score by length: passkey_retrieval"


def test_what_failed_counts_for_nothing(tmp_path):
    folder = write_task_trial(tmp_path / "some", [1.0, None, 0.0])
    (method,) = load_methods([str(folder)])
    there, score, _ = score_by_length.scores_by_length(method, group_starts([method]))
    assert there.tolist() == [0] and score.tolist() == [0.5]


def test_cells_of_the_heatmap_are_mean_scores(log_dirs):
    methods = load_methods(log_dirs)
    rows = score_heatmap.depth_rows(methods)
    assert rows.names == ["0%", "50%", "100%"]
    cells = score_heatmap.scores_by_cell(methods[0], group_starts(methods), rows)
    np.testing.assert_array_equal(cells, [[1, 1, 1], [1, 1, 0], [1, 1, 0]])
    figure = score_heatmap.draw(methods)
    panel = figure.axes[0]
    np.testing.assert_array_equal(panel.collections[0].get_array(), cells)
    assert panel.get_ylim()[0] > panel.get_ylim()[1]  # the beginning of a prompt is at the top
    assert [text.get_text() for text in panel.texts] == [f"{score:.2f}" for score in cells.flat]
    assert panel.lines[0].get_xdata() == [1.5, 1.5]  # 8,192 tokens are between 4,000 and 16,000


def test_random_depths_share_rows_and_missing_cells_stay_empty(tmp_path):
    depths = np.linspace(0, 0.49, 40).tolist()
    (method,) = load_methods([str(write_lengths(tmp_path / "random", [500], depths=depths))])
    rows = score_heatmap.depth_rows([method])
    assert len(rows.names) == 10 and rows.names[0] == "0%–10%"
    cells = score_heatmap.scores_by_cell(method, group_starts([method]), rows)
    assert np.isfinite(cells[:5]).all() and np.isnan(cells[5:]).all()
    panel = score_heatmap.draw([method]).axes[0]
    assert panel.collections[0].get_array().mask.sum() == 5 and len(panel.texts) == 5


def test_a_task_without_depths_has_no_heatmap(tmp_path):
    folder = write_task_trial(tmp_path / "qasper", [1.0, 0.0])
    write_lines(folder / "samples.jsonl", [task_sample(index, 1.0, depth=None) for index in range(2)])
    with pytest.raises(UserError, match="no example of .*qasper has a depth"):
        score_heatmap.draw(load_methods([str(folder)]))


def test_a_peak_counts_until_a_longer_text_was_met(tmp_path):
    """The second time around, all lengths have seen the memory of the longest."""
    (method,) = load_methods([str(write_lengths(tmp_path / "mixed", [1024, 2048, 4096], repeats=2))])
    latency, memory = cost_by_length.COSTS["eval_downstream_tasks"]
    starts = group_starts([method])
    middle, low, high = cost_by_length.costs_by_length(method, starts, memory)
    assert middle.tolist() == low.tolist() == high.tolist() == [1, 2, 4]
    assert cost_by_length.costs_by_length(method, starts, latency)[0].tolist() == [1.024, 2.048, 4.096]


def test_costs_of_generation(tmp_path):
    folders = [
        str(write_generation(tmp_path / "vanilla", [1000, 2000])),
        str(write_generation(tmp_path / "lambda", [1000, 2000], cache=lambda _: 2**19, **lambda_flags(512))),
    ]
    methods = load_methods(folders, None, tuple(cost_by_length.COSTS))
    figure = cost_by_length.draw(methods, scale="log")
    prefill, decode, cache = figure.axes
    assert prefill.containers[0].lines[0].get_ydata().tolist() == [1, 2]
    assert decode.containers[0].lines[0].get_ydata() == pytest.approx([100, 100])
    assert cache.containers[1].lines[0].get_ydata().tolist() == [0.5, 0.5]
    assert [axes.get_ylabel() for axes in figure.axes] == ["seconds", "ms per token", "MiB"]
    assert legend_labels(figure) == ["vanilla", "lm_infinite"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_damaged_or_empty_trial_is_one_sentence(script, monkeypatch, log_dirs, tmp_path):
    out = tmp_path / "picture.png"
    lines = tmp_path / "vanilla-2000" / "samples.jsonl"
    for content, message in (("{", "samples.jsonl line 1 is no JSON object"), ("", "has 0 lines where .* counts 6")):
        lines.write_text(content)
        with pytest.raises(UserError, match=message):
            run_in_process(monkeypatch, script, *log_dirs, "--out", out)
    with pytest.raises(UserError, match="nowhere is not a folder"):
        run_in_process(monkeypatch, script, tmp_path / "nowhere", "--out", out)
    other = write_nll_trial(tmp_path / "nll", [[1.0, 2.0]])
    with pytest.raises(
        UserError, match="nll/config.json is of the script 'eval_ppl_deepspeed': give trials of eval_down"
    ):
        run_in_process(monkeypatch, script, other, "--out", out)
    assert not out.exists()


def test_what_cannot_be_set_side_by_side(tmp_path):
    one = str(write_lengths(tmp_path / "one", [500]))
    same = str(write_lengths(tmp_path / "same", [500]))
    infinite = str(write_lengths(tmp_path / "infinite", [500], **lambda_flags()))
    wider = str(write_lengths(tmp_path / "wider", [500], **lambda_flags(999)))
    other_task = str(write_task_trial(tmp_path / "task", [1.0], task="qasper"))
    write_lines(tmp_path / "task" / "samples.jsonl", [task_sample(0, 1.0, task="qasper")])
    for log_dirs, labels, message in (
        ([one, one], None, "one is given twice"),
        ([one, same], None, "same has an example that another trial called 'vanilla' has, too"),
        ([one, infinite], ["a", "a"], "both called 'a' and differ in their method"),
        ([infinite, wider], None, "both called 'lm_infinite' and differ in their Λ-attention"),
        ([one, other_task], None, "one is of passkey_retrieval and .*task of qasper"),
        ([one], ["a", "b"], "--labels: 2 given for 1"),
    ):
        with pytest.raises(UserError, match=message):
            load_methods(log_dirs, labels)
    assert len(load_methods([infinite, wider], ["4096", "999"])) == 2


def test_a_trial_of_failures_only(tmp_path):
    with pytest.raises(UserError, match="all examples of .*failed failed"):
        load_methods([str(write_task_trial(tmp_path / "failed", [None, None]))])
