"""Every table that is keyed by experiments has all that belong into it."""

import importlib
from pathlib import Path

import pytest

from scripts import combine_results
from scripts.combining import merging
from utils.trials.experiments import EXPERIMENTS, SCORED
from utils.trials.nll_trials import NLL_TRIALS
from utils.trials.reading import TYPE_WORDS
from visualization.drawing import costs
from visualization.reporting import kinds

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = {"diagnosis", "downstream", "generation", "lm_harness", "perplexity", "streaming"}
"""In scripts/, those of experiments."""


def named(**facts):
    """The names of the experiments whose record has these facts."""
    return {
        name
        for name, experiment in EXPERIMENTS.items()
        if all(bool(getattr(experiment, fact)) == value for fact, value in facts.items())
    }


@pytest.mark.parametrize(
    "table, expected",
    [
        (kinds.KINDS, set(EXPERIMENTS)),
        (combine_results.ROWS_OF, set(SCORED)),
        (merging.RESULTS_OF, named(shards=True)),
        (NLL_TRIALS, named(arrays=True, scored=True)),
    ],
    ids=["pictures of a report", "rows of a table", "results of merged shards", "NLL by position"],
)
def test_a_table_has_every_experiment_that_belongs_into_it(table, expected):
    assert set(table) == expected


def test_costs_are_of_lines_that_tell_time_and_whether_they_failed():
    lines = {name: EXPERIMENTS[name].lines for name in named(lines=True)}
    assert set(costs.COSTS) == {name for name, of in lines.items() if of.outcome is not None}


def test_every_experiment_has_a_folder_and_a_command_of_its_name():
    scripts = [importlib.import_module(f"scripts.{folder}").SCRIPT for folder in sorted(FOLDERS)]
    assert sorted(scripts) == sorted(EXPERIMENTS)
    assert all((ROOT / "scripts" / f"{name}.py").is_file() for name in EXPERIMENTS)


def test_shards_are_joined_by_their_lines():
    assert named(shards=True) <= named(lines=True)


def test_fields_are_of_types_that_have_words():
    for name in named(lines=True):
        lines = EXPERIMENTS[name].lines
        assert {*lines.always.values(), *lines.finished.values()} <= set(TYPE_WORDS), name
        assert lines.outcome is None or lines.outcome in lines.always
