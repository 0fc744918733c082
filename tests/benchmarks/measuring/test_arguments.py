"""The options that all benchmarks share."""

import pytest
import torch

from benchmarks.measuring.arguments import (
    add_benchmark_arguments,
    add_branch_arguments,
    add_budget_argument,
    benchmark_parser,
)
from utils.errors import UserError

LENGTHS = {"cpu": [1024, 4096], "cuda": [1_048_576]}


@pytest.fixture
def parse():
    parser = benchmark_parser("What is measured.\n\npython benchmarks/this.py")
    add_benchmark_arguments(parser, LENGTHS)
    add_budget_argument(parser, {"cpu": 20.0, "cuda": 2.0})
    add_branch_arguments(parser, {"cpu": 4096, "cuda": 2048}, global_branch=10)
    return lambda *words: parser.parse_args(words)


@pytest.fixture
def with_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def test_defaults_are_those_of_the_device(parse, with_cuda):
    found = parse()
    assert (found.device, found.lengths, found.budget, found.repeats) == ("cpu", [1024, 4096], 20.0, 5)
    assert found.dtypes == ["float32", "bfloat16"]
    found = parse("--device", "cuda")
    assert (found.lengths, found.budget) == ([1_048_576], 2.0)
    assert parse("--device", "cuda", "--lengths", "64").lengths == [64]


def test_lengths_rise_and_nothing_is_measured_twice(parse):
    found = parse("--lengths", "64", "16", "64", "--dtypes", "bfloat16", "float32", "bfloat16")
    assert (found.lengths, found.dtypes) == ([16, 64], ["bfloat16", "float32"])


def test_the_limit_is_the_local_branch_unless_another_or_none_is_given(parse):
    assert parse("--local_branch", "64").limit_distance == 64
    assert parse("--limit_distance", "5").limit_distance == 5
    assert parse("--limit_distance", "none").limit_distance is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--lengths", "0"), "--lengths: must be at least 2, not 0"),
        (("--dtypes", "int8"), "--dtypes: invalid choice: 'int8'"),
        (("--repeats", "many"), "--repeats: must be a whole number"),
        (("--budget", "0"), "--budget: must be more than 0 seconds"),
        (("--device", "cuda"), "--device cuda: there is no CUDA device here, give cpu or leave it out"),
    ],
)
def test_bad_input_is_one_sentence(parse, monkeypatch, words, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=said) as caught:
        parse(*words)
    assert "\n" not in str(caught.value)
