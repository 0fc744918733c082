"""The commands that draw examples: trials of the script itself, every format, and bad input."""

import sys

import pytest

from data.tasks.prompt import PromptEncoder
from data.tasks.registry import get_task
from data.tasks.task import TaskRequest, open_examples
from scripts import eval_downstream_tasks
from tests.scripts.example_trials import write_nll_trial
from tests.tiny_models import tiny_tokenizer
from tests.visualization.pictures import (
    LONG_LABELS,
    assert_nothing_overlaps,
    assert_words_are_apart,
    legend_labels,
    run_in_process,
)
from utils.errors import UserError
from visualization import cost_by_length, score_by_length, score_heatmap
from visualization.drawing import costs, heatmap, scores
from visualization.drawing.methods import load_methods
from visualization.drawing.style import paper_style, save_figure

SCRIPTS = {score_by_length: scores, score_heatmap: heatmap, cost_by_length: costs}


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


@pytest.mark.parametrize("script, picture", SCRIPTS.items())
def test_each_script_draws_every_format_and_nothing_overlaps(script, picture, monkeypatch, task_dirs, tmp_path):
    with paper_style():
        figure = picture.draw(load_methods(task_dirs), title="$5 of \\frac")
        save_figure(figure, [tmp_path / "picture.png"])
        assert_nothing_overlaps(figure)
    outputs = [tmp_path / f"picture.{suffix}" for suffix in ("pdf", "svg")]
    run_in_process(monkeypatch, script, *task_dirs, "--out", *outputs)
    assert outputs[0].read_bytes().startswith(b"%PDF-") and b"<svg" in outputs[1].read_bytes()
    assert legend_labels(figure)[-1] == "pre-training length 8,192"


def test_long_labels_do_not_overlap(task_dirs):
    labels = [LONG_LABELS[place] for place in (0, 0, 1, 2, 2, 2)]
    for picture in SCRIPTS.values():
        with paper_style():
            figure = picture.draw(load_methods(task_dirs, labels), title="A title of many words, " * 9)
            figure.draw_without_rendering()
            assert_words_are_apart(figure)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_damaged_or_empty_trial_is_one_sentence(script, monkeypatch, task_dirs, tmp_path):
    out = tmp_path / "picture.png"
    lines = tmp_path / "vanilla-2000" / "samples.jsonl"
    for content, message in (("{", "samples.jsonl line 1 is no JSON object"), ("", "has 0 lines where .* counts 6")):
        lines.write_text(content)
        with pytest.raises(UserError, match=message):
            run_in_process(monkeypatch, script, *task_dirs, "--out", out)
    with pytest.raises(UserError, match="nowhere is not a folder"):
        run_in_process(monkeypatch, script, tmp_path / "nowhere", "--out", out)
    other = write_nll_trial(tmp_path / "nll", [[1.0, 2.0]])
    with pytest.raises(
        UserError, match="nll/config.json is of the script 'eval_ppl_deepspeed': give trials of eval_down"
    ):
        run_in_process(monkeypatch, script, other, "--out", out)
    assert not out.exists()
