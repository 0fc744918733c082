"""Tasks of lm-eval that cannot go well, damage to their files, and what is said and shown of them."""

import json
import logging
import shutil

import pytest

pytest.importorskip("lm_eval")

import tqdm

from scripts.lm_harness.quiet import hearing_lm_eval
from tests.scripts.lm_harness.lm_tasks import TASKS, run_here, write_tasks
from tests.scripts.running import flip_a_bit, results, run_command
from utils.console import Console
from utils.errors import UserError
from visualization.reporting.columns import comparisons
from visualization.reporting.trials import load_report_trials


@pytest.fixture(scope="module")
def flags(tiny_llama_dir, tmp_path_factory):
    tasks = write_tasks(tmp_path_factory.mktemp("lm-eval") / "tasks")
    return ("--model", tiny_llama_dir, "--include_path", tasks, "--tasks")


@pytest.fixture(scope="module")
def finished(flags, tmp_path_factory):
    log_dir = tmp_path_factory.mktemp("finished")
    run_here(*flags, ",".join(TASKS), "--log_dir", log_dir)
    return log_dir


@pytest.mark.parametrize(
    "more, words",
    [
        (("own_generation", "--gen_kwargs", '{"nonsense": 1}'), "--gen_kwargs: 'nonsense' is no argument"),
        (("own_choice", "--gen_kwargs", '{"top_k": 1}'), "--gen_kwargs: none of --tasks own_choice generates text"),
        (("own_choice", "--num_fewshot", 4), "--num_fewshot 4 is more than the 3 solved examples .* give 3 at most"),
    ],
)
def test_what_can_be_known_before_is_refused_before(flags, tmp_path, more, words):
    with pytest.raises(UserError, match=words):
        run_here(*flags, *more, "--log_dir", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["log.txt"]


def test_as_many_solved_examples_as_there_are_can_be_given(flags, tmp_path):
    run_here(*flags, "own_choice", "--num_fewshot", 3, "--log_dir", tmp_path)
    assert {score["num_fewshot"] for score in results(tmp_path)["scores"]} == {3}


def test_solved_examples_of_the_questions_are_one_less(flags, tmp_path):
    folder = shutil.copytree(flags[3], tmp_path / "tasks")
    with open(folder / "own_choice.yaml", "a") as file:
        file.write("fewshot_split: test\n")
    call = (*flags[:3], folder, "--tasks", "own_choice", "--num_fewshot")
    with pytest.raises(UserError, match="--num_fewshot 3 is more than the 2 solved examples .* give 2 at most"):
        run_here(*call, 3, "--log_dir", tmp_path / "log")
    run_here(*call, 2, "--log_dir", tmp_path / "log")


def test_what_a_task_raises_is_a_sentence_and_a_traceback_in_the_log(flags, tmp_path):
    call = (*flags, "own_choice,own_generation", "--gen_kwargs", '{"repetition_penalty": "a"}')
    words = r"task 'own_generation' failed with ValueError \(.*positive.*\): .* look at --gen_kwargs and --tasks$"
    with pytest.raises(UserError, match=words) as error:
        run_here(*call, "--log_dir", tmp_path)
    assert isinstance(error.value.__cause__, ValueError) and "\n" not in str(error.value)
    log = (tmp_path / "log.txt").read_text()
    assert "Traceback (most recent call last)" in log and "error: task 'own_generation' failed" in log
    (line,) = (tmp_path / "samples.jsonl").read_text().splitlines()
    assert json.loads(line)["task"] == "own_choice" and not (tmp_path / "results.json").exists()


def test_neither_bars_nor_defaults_are_shown(flags, tmp_path, capsys):
    run_here(*flags, "own_choice", "--log_dir", tmp_path)
    said = "".join(capsys.readouterr())
    assert "is defined, but" not in said and "it/s" not in said


def test_other_warnings_are_heard(capsys):
    bar, logger = tqdm.tqdm, logging.getLogger("lm_eval.api.task")
    with hearing_lm_eval(Console()):
        logger.warning("[Task: a] metric acc is defined, but aggregation is not. using default aggregation=mean")
        logger.warning("the data is odd")
    assert capsys.readouterr().out == "the data is odd\n" and tqdm.tqdm is bar and not logger.filters


def test_tables_and_reports_name_a_flipped_bit(finished, tmp_path):
    evidence = results(finished)["computed_from"]
    assert len(evidence) == len(TASKS) + 2
    for name in evidence:
        log_dir = flip_a_bit(shutil.copytree(finished, tmp_path / name), name)
        for command in ("visualization.report", "scripts.combine_results"):
            with pytest.raises(UserError, match=f"{name} .*nothing is computed from it"):
                run_command(command, log_dir, "--out", tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()


def test_a_report_has_every_metric_and_the_lengths_in_order(flags, finished, tmp_path):
    for length in (60, 40):
        run_here(*flags, ",".join(TASKS), "--max_length", length, "--log_dir", tmp_path / str(length))
    trials = load_report_trials([str(tmp_path / "60"), str(tmp_path / "40"), str(finished)])
    (table,) = comparisons(trials)
    names = [column.heading for column in table.columns]
    first = [f"{score['task']} {score['metric']}" for score in results(finished)["scores"]]
    assert names[: len(first) + 1] == ["Method", *first] and "own_choice acc_norm" in first and "Score" not in names
    for place, score in enumerate(results(finished)["scores"]):
        shown = [cell.text for cell in table.columns[place + 1].cells]
        own = results(table.trials[0].log_dir)["scores"][place]["score"]
        assert shown[0].startswith(f"{own:.4f}"), score
    lengths = next(column for column in table.columns if column.heading.startswith("Length"))
    assert [cell.text for cell in lengths.cells] in (["", "40", "60"], ["40", "60", ""])
