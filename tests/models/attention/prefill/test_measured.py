"""The fastest way to attend on a processor: measured, remembered, and the same for all processes of a machine."""

import dataclasses
import functools
import json
import logging

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from models.attention import processor
from models.attention.prefill import choice, measured
from models.attention.prefill.blockwise import QUERY_BLOCK
from models.attention.prefill.choice import choose_backend, say_once
from models.attention.prefill.measured import Kind, Measured, fastest, sizes
from models.lambda_attention import LambdaConfig
from tests.models.attention.attention_cases import make_case

WINDOW = 300
CONFIG = LambdaConfig(WINDOW, 4, WINDOW)
KIND = Kind("float32", 4, 2, 8, 8, WINDOW, 4, False, ("blockwise", "edges"))


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """The user's cache folder, with nothing in it, and a process that has measured nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(measured, "_found", {})
    monkeypatch.setattr(measured, "TURN_SECONDS", 0.0)
    return tmp_path / "lm-infinite" / "attention"


@pytest.fixture
def times(monkeypatch):
    """Seconds by candidate that are found in the place of real ones, and how often something was measured."""
    given = {"blockwise": 3.0, "edges": 2.0, "onednn": 4.0, "dense": 9.0}
    count = []

    def measure(runs):
        count.append(tuple(runs))
        seconds = {name: given[name] for name in runs}
        return Measured(min(seconds, key=seconds.__getitem__), seconds, measured.here())

    monkeypatch.setattr(measured, "_measure", measure)
    return given, count


def layer_and_tensors(dtype=torch.float32, length=WINDOW + 20, **changed):
    case = make_case(dataclasses.replace(CONFIG, **changed), length, key_heads=2, group=2, dtype=dtype)
    return case.layer, case.query, case.value


def another_process(monkeypatch):
    monkeypatch.setattr(measured, "_found", {})


def test_every_candidate_runs_and_the_least_seconds_win(monkeypatch):
    layer, query, _ = layer_and_tensors()
    found = fastest(dataclasses.replace(KIND, candidates=("blockwise", "edges", "onednn")), layer, query.dtype)
    assert set(found.seconds) == {"blockwise", "edges", "onednn"} and all(x > 0 for x in found.seconds.values())
    assert found.seconds[found.name] == min(found.seconds.values()) and found.where == measured.here()


SHAPES = {
    "SmolLM2": {},
    "Llama 2": {"query_heads": 32, "key_heads": 32, "head_dim": 128, "local_branch": 4096},
    "Llama 3": {"query_heads": 32, "key_heads": 8, "head_dim": 128, "local_branch": 4096},
    "a long window": {"query_heads": 32, "key_heads": 8, "head_dim": 128, "local_branch": 65_536},
    "Falcon": {"query_heads": 71, "key_heads": 1, "head_dim": 64, "local_branch": 2048},
    "a short window": {"query_heads": 9, "key_heads": 3, "head_dim": 64, "local_branch": 256},
}


@pytest.mark.parametrize("begins", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 16])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_run_is_no_more_work_than_a_processor_does_at_once(shape, threads, begins, monkeypatch):
    smollm2 = Kind("float32", 9, 3, 64, 64, 2048, 10, begins, ("blockwise",))
    kind = dataclasses.replace(smollm2, **SHAPES[shape])
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    heads, group, rows = sizes(kind)
    assert 1 <= heads <= kind.key_heads and 1 <= group <= kind.query_heads // kind.key_heads
    assert min(measured.FEWEST_ROWS, kind.local_branch) <= rows <= min(measured.ROWS, kind.local_branch)
    assert heads == 1 or group == kind.query_heads // kind.key_heads, "heads are left out first"
    assert group == 1 or rows == min(measured.ROWS, kind.local_branch), "and then those that share one"
    work = 4 * heads * group * rows * kind.head_dim * (rows / 2 if begins else kind.local_branch)
    assert work <= measured.FLOP_PER_THREAD * threads or (heads, group, rows) == (1, 1, measured.FEWEST_ROWS)


def test_the_first_window_of_a_small_model_is_measured_with_more_heads_than_one(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)  # one head alone has torch's own attention win in bfloat16
    assert sizes(Kind("bfloat16", 9, 3, 64, 64, 2048, 10, True, ("blockwise", "dense"))) == (1, 2, 2048)


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_no_thread_waits_for_a_block_that_is_left_over(threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    llama2 = Kind("float32", 32, 32, 128, 128, 4096, 10, False, ("blockwise",))
    assert sizes(llama2) == (1, 1, QUERY_BLOCK * threads)


@pytest.mark.parametrize(("seconds", "times"), [(0.002, 21), (0.007, 5), (0.3, 2)])
def test_a_candidate_runs_until_its_turn_is_over_and_twice_at_least(seconds, times, monkeypatch):
    now, ran = [0.0], []
    monkeypatch.setattr(measured, "TURN_SECONDS", 0.045)
    monkeypatch.setattr(measured.time, "perf_counter", lambda: now[0])

    def run(name: str, factor: int) -> None:
        ran.append(name)
        now[0] += factor * seconds * (3 if ran.count(name) == 1 else 1)  # the first run loads its code

    found = measured._measure({name: functools.partial(run, name, k) for k, name in ((2, "slow"), (1, "fast"))})
    assert found.name == "fast" and found.seconds == pytest.approx({"slow": 2 * seconds, "fast": seconds})
    assert ran == sorted(ran, reverse=True) and ran.count("fast") == times


def test_the_random_numbers_of_the_program_are_not_touched():
    layer, query, _ = layer_and_tensors()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fastest(KIND, layer, query.dtype)
    assert torch.equal(torch.rand(3), expected)


def test_another_process_remembers(times, monkeypatch, cache):
    layer, query, _ = layer_and_tensors()
    first = fastest(KIND, layer, query.dtype)
    assert first.name == "edges" and str(first) == "measured on this processor: 1.50x by blockwise"
    assert fastest(KIND, layer, query.dtype) is first
    another_process(monkeypatch)
    times[0]["edges"] = 5.0  # it would be found the slower one now
    again = fastest(KIND, layer, query.dtype)
    assert again.name == "edges" and len(times[1]) == 1
    assert str(again) == "measured on this processor before: 1.50x by blockwise"
    (file,) = cache.iterdir()
    assert json.loads(file.read_text())["seconds"] == {"blockwise": 3.0, "edges": 2.0}


@pytest.mark.parametrize(
    "other",
    [
        {"dtype": "bfloat16"},
        {"query_heads": 8},
        {"head_dim": 16},
        {"local_branch": 301},
        {"begins": True},
        {"candidates": ("blockwise", "onednn")},
    ],
)
def test_another_kind_is_measured_anew(other, times):
    layer, query, _ = layer_and_tensors()
    fastest(KIND, layer, query.dtype)
    fastest(dataclasses.replace(KIND, **other), layer, query.dtype)
    assert len(times[1]) == 2


@pytest.mark.parametrize("differs", ["processor", "torch", "threads", "cores"])
def test_so_is_another_machine(differs, times, monkeypatch, tmp_path):
    layer, query, _ = layer_and_tensors()
    fastest(KIND, layer, query.dtype)
    another_process(monkeypatch)
    if differs == "processor":
        (tmp_path / "cpuinfo").write_text("model name\t: Other\nflags\t\t: amx_bf16\n")
        monkeypatch.setattr(processor, "PROCESSORS", tmp_path / "cpuinfo")
        assert processor.everything_told() == "Other amx_bf16" and measured.here().startswith("Other, ")
    elif differs == "torch":
        monkeypatch.setattr(torch, "__version__", "9.9")
    elif differs == "cores":
        monkeypatch.setattr(measured, "cores", lambda: 1000)
    else:
        monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    fastest(KIND, layer, query.dtype)
    assert len(times[1]) == 2


def test_of_two_processes_that_measure_at_once_the_first_one_counts_for_both(times, monkeypatch, cache):
    layer, query, _ = layer_and_tensors()
    file = measured._file(KIND)

    def measure(runs):
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"seconds": {"blockwise": 1.0, "edges": 2.0}}))
        return Measured("edges", {"blockwise": 2.0, "edges": 1.0}, measured.here())

    monkeypatch.setattr(measured, "_measure", measure)
    assert fastest(KIND, layer, query.dtype).name == "blockwise"
    assert [path.name for path in cache.iterdir()] == [file.name], "nothing else is left"


@pytest.mark.parametrize(
    "damage",
    [
        *("", "{", '{"seconds": {"blockwise": 1.0}}', '{"seconds": {"blockwise": "x", "edges": 1}}'),
        f'{{"seconds": {{"blockwise": 1{400 * "0"}, "edges": 1}}}}',
        200_000 * "[",
    ],
    ids=["empty", "cut", "one", "no number", "too large", "too deep"],
)
def test_a_damaged_file_counts_for_nothing(damage, times, cache):
    layer, query, _ = layer_and_tensors()
    cache.mkdir(parents=True)
    measured._file(KIND).write_text(damage)
    assert fastest(KIND, layer, query.dtype).name == "edges" and len(times[1]) == 1


@pytest.mark.parametrize("folder", [".", "lm-infinite", "lm-infinite/attention"])
def test_a_cache_that_cannot_be_written_is_said_and_does_not_stop(folder, times, monkeypatch, tmp_path, caplog):
    layer, query, _ = layer_and_tensors()
    base = tmp_path / "base"
    (base / folder).parent.mkdir(parents=True, exist_ok=True)
    (base / folder).write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(base))
    with caplog.at_level(logging.INFO, logger=measured.__name__):
        assert fastest(KIND, layer, query.dtype).name == "edges"
    assert "not remembered" in caplog.text


def test_a_relative_cache_folder_is_none(times, monkeypatch):
    layer, query, _ = layer_and_tensors()
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert fastest(KIND, layer, query.dtype).name == "edges"


def test_the_choice_is_said_with_what_was_measured(times, caplog):
    say_once.cache_clear()
    with caplog.at_level(logging.INFO, logger=choice.__name__):
        found = choose_backend(*layer_and_tensors())
    assert found.backend == "edges" and not found.begins_dense
    expected = "attention by edges (float32 on cpu, measured on this processor: 1.50x by blockwise, 2.00x by onednn)"
    assert [record.getMessage() for record in caplog.records] == [expected]


@pytest.mark.parametrize(("dense", "begins"), [(2.5, True), (3.5, False)])
def test_the_first_window_is_measured_apart_where_its_backend_has_no_kernel_for_it(dense, begins, times):
    times[0].update(edges=8.0, dense=dense)
    found = choose_backend(*layer_and_tensors())
    assert (found.backend, found.begins_dense) == ("blockwise", begins)
    assert times[1][1] == ("blockwise", "dense") and str(found).endswith(", the first window dense)") == begins


@pytest.mark.parametrize(
    ("changed", "candidates"),
    [
        ({}, ("blockwise", "edges", "onednn")),
        ({"dtype": torch.bfloat16}, ("blockwise", "edges")),
        ({"dtype": torch.float16}, ("blockwise", "edges", "onednn")),
        ({"dtype": torch.float64}, ("blockwise", "edges")),
        ({"limit_distance": 200}, ("blockwise", "onednn")),
    ],
)
def test_what_a_layer_cannot_have_is_no_candidate(changed, candidates, times):
    choose_backend(*layer_and_tensors(**changed))
    assert times[1][0] == candidates


def test_a_layer_whose_limit_falls_inside_the_window_is_measured_for_real():
    layer, query, value = layer_and_tensors(limit_distance=200)
    assert choose_backend(layer, query, value).backend in ("blockwise", "onednn")


@pytest.mark.parametrize("case", [{"encoding": "alibi"}, {"learned_sink": True}])
def test_what_a_layer_has_for_each_head_is_measured_for_as_many_as_the_work_allows(case, monkeypatch):
    monkeypatch.setattr(measured, "FLOP_PER_THREAD", 1)
    case = make_case(CONFIG, WINDOW + 20, key_heads=4, group=2, **case)
    chosen = choose_backend(case.layer, case.query, case.value).backend
    seconds = measured.found()[0]["seconds"]
    assert len(seconds) >= 2 and chosen == min(seconds, key=seconds.__getitem__)


def test_nothing_is_measured_where_tensors_are_only_looked_at(times, cache):
    with FlopCounterMode(display=False):
        assert choose_backend(*layer_and_tensors()).backend == "blockwise"
    assert not times[1] and not cache.exists()


def test_what_was_recorded_counts_and_nothing_else(times):
    layer, query, _ = layer_and_tensors()
    fastest(KIND, layer, query.dtype)
    recorded = json.loads(json.dumps(measured.found()))
    assert recorded[0]["backend"] == "edges" and recorded[0]["local_branch"] == WINDOW
    recorded[0]["backend"] = "blockwise"
    recorded[0]["where"] = "Another, 3 threads"
    measured.recall(recorded)
    again = fastest(KIND, layer, query.dtype)
    assert again.name == "blockwise" and len(times[1]) == 1
    assert str(again).startswith("as this run began with, measured on Another, 3 threads: 0.67x by edges")
    del recorded[0]["where"]  # as it was recorded at first
    measured.recall(recorded)
    assert fastest(KIND, layer, query.dtype).name == "blockwise" and len(times[1]) == 1
    for others in ([], [recorded[0] | {"another": 1}], [{"backend": "edges"}]):
        measured.recall(others)
        assert not measured.found()


def test_ranks_take_what_the_first_of_them_found(times):
    layer, query, _ = layer_and_tensors()
    own = fastest(KIND, layer, query.dtype)
    (mine,) = json.loads(json.dumps(measured.found()))
    other = mine | {"dtype": "bfloat16"}
    measured.agree([mine, mine | {"backend": "blockwise"}, other])
    assert fastest(KIND, layer, query.dtype) is own and len(measured.found()) == 2 and len(times[1]) == 1
    measured.agree([mine | {"backend": "blockwise"}])
    again = fastest(KIND, layer, query.dtype)
    assert again.name == "blockwise" and str(again).startswith("as another process has measured on ")
    assert len(measured.found()) == 2


def test_a_backend_by_name_and_a_short_window_are_not_measured(times):
    layer, query, value = layer_and_tensors(backend="edges")
    assert choose_backend(layer, query, value).backend == "edges"
    short = dataclasses.replace(layer, config=LambdaConfig(20, 4, 20))
    assert choose_backend(short, query, value).backend == "blockwise"
    assert not times[1]


@pytest.mark.parametrize("backend", ["blockwise", "edges", "onednn"])
def test_the_numbers_do_not_depend_on_the_choice_beyond_rounding(backend):
    case = make_case(dataclasses.replace(CONFIG, backend=backend), 380, key_heads=2, group=2)
    torch.testing.assert_close(case.attend().double(), case.expected(), rtol=0, atol=2e-6)
