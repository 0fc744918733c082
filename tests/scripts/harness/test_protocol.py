"""--protocol published: the flags that it stands for on each script, and what contradicts it."""

import pytest

from scripts import eval_downstream_tasks, eval_infinite_ppl, eval_ppl_deepspeed
from utils.errors import SharedError

ESSAYS = "--haystack essays/PaulGrahamEssays.json"
RULER = {"num_samples": 500, "percent": True, "nominal_length": False}


def parse(script, flags, monkeypatch):
    monkeypatch.setattr("sys.argv", [script.__name__, *flags.split()])
    return vars(script.parse_arguments())


@pytest.mark.parametrize(
    "script, flags, expected",
    [
        (eval_ppl_deepspeed, "", {"document_mean": True}),
        (eval_infinite_ppl, "", {"document_separator": "none"}),
        (eval_infinite_ppl, "--document_separator none", {"document_separator": "none"}),
        (eval_downstream_tasks, "", {"nominal_length": True, "max_generation_length": 7, "num_samples": None}),
        (eval_downstream_tasks, "--num_samples 3 --percent", {"num_samples": 3, "percent": True}),
        (eval_downstream_tasks, "--dataset_dir keys", {"nominal_length": False, "max_generation_length": 7}),
        (eval_downstream_tasks, "--dataset ruler/vt", RULER | {"max_generation_length": 30}),
        (eval_downstream_tasks, "--dataset ruler --dataset_group cwe", RULER | {"max_generation_length": 120}),
        (eval_downstream_tasks, f"--dataset ruler/niah_single_2 {ESSAYS}", RULER | {"max_generation_length": 128}),
        (eval_downstream_tasks, "--dataset ruler/qa_1 --dataset_dir q", RULER | {"max_generation_length": 32}),
        (eval_downstream_tasks, "--dataset qasper", {"percent": True, "max_generation_length": 30}),
        (eval_downstream_tasks, "--dataset zero_scrolls/quality", {"percent": True, "max_generation_length": 10}),
    ],
)
def test_what_it_stands_for(script, flags, expected, monkeypatch):
    found = parse(script, f"{flags} --protocol published", monkeypatch)
    assert {name: found[name] for name in expected} == expected
    assert found["protocol"] == "published"
    without = parse(script, flags, monkeypatch)
    assert without["protocol"] is None and not without.get("document_mean")


@pytest.mark.parametrize(
    "script, flags, message",
    [
        (
            eval_infinite_ppl,
            "--document_separator eos",
            "--document_separator eos contradicts .* --document_separator none",
        ),
        (
            eval_downstream_tasks,
            "--dataset ruler/vt --num_samples 9",
            "--num_samples 9 contradicts .* --num_samples 500",
        ),
        (eval_downstream_tasks, "--max_generation_length 16", "--max_generation_length 16 contradicts .*_length 7"),
        (eval_downstream_tasks, "--dataset needle_in_a_haystack", "has no meaning for --dataset needle_in_a_haystack"),
        (eval_downstream_tasks, "--dataset ruler/niah_single_2", "needs --haystack, RULER's own PaulGrahamEssays.json"),
        (eval_downstream_tasks, "--dataset ruler/niah_single_2 --haystack plays", "needs --haystack, RULER's own"),
        (eval_downstream_tasks, "--dataset quasper", "--dataset quasper is no task"),
    ],
)
def test_what_contradicts_it_is_refused(script, flags, message, monkeypatch):
    with pytest.raises(SharedError, match=message):
        parse(script, f"{flags} --protocol published", monkeypatch)
