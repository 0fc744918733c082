"""Whole models: what is run and measured, on a tiny random one."""

import json
import sys

import pytest
import torch

from benchmarks import model_speed
from benchmarks.measuring import model_reading
from benchmarks.measuring.children import measure_apart
from benchmarks.measuring.model_reading import load, read_and_generate
from benchmarks.measuring.timing import Timing
from benchmarks.model_speed import OURS, VANILLA, measure_method, measure_overhead, overhead_lines, ratios
from models.decode_graph import DecodeGraph
from models.lambda_attention import LambdaConfig
from models.model_base import convert_model, is_converted
from tests.tiny_models import tiny_config, tiny_model
from utils.errors import UserError

LOCAL = 32


@pytest.fixture
def case(tiny_llama_dir):
    config = LambdaConfig(LOCAL, 4, LOCAL).to_dict()
    settings = {"device": "cpu", "tokens": 3, "repeats": 2, "budget": 60.0, "lambda_attention": config}
    return {"panel": "tiny, float32", "model": str(tiny_llama_dir), "dtype": "float32", **settings}


@pytest.fixture
def in_this_process(monkeypatch):
    """Cases are measured here, which is faster."""
    calls = []

    def measure_here(script, measure, case):
        assert measure is (measure_method if case["method"] else measure_overhead)
        calls.append((case["method"], case["length"]))
        return measure(case)

    monkeypatch.setattr(model_speed, "measure_case", measure_here)
    return calls


ROW = dict.fromkeys(("memory_mib", "cache_mib", "peak_in_all_mib"), 1.0)
ROW |= {name: Timing.of([1.0]).to_dict() for name in ("prefill_seconds", "tokens_per_second")}


def run_main(monkeypatch, *words):
    """What the script saves."""
    saved = {}
    monkeypatch.setattr(model_speed, "save_results", lambda folder, name, device, results: saved.update(results))
    monkeypatch.setattr(sys, "argv", ["model_speed.py", *map(str, words)])
    model_speed.main()
    return saved


def test_a_prompt_is_read_at_once_and_gives_one_logit_as_generate_has_it():
    model, shapes, tokens = tiny_model(), [], []
    model.register_forward_hook(lambda *call: shapes.append(call[2].logits.shape[1]), with_kwargs=False)
    model.base_model.register_forward_pre_hook(
        lambda module, args, inputs: tokens.append(inputs["input_ids"]), with_kwargs=True
    )
    reading = read_and_generate(model, 40, tokens=5)
    assert [ids.shape[1] for ids in tokens] == [40, 1, 1, 1, 1, 1] and set(shapes) == {1}
    prompt, generated = tokens[0], torch.cat(tokens[1:], dim=1)
    expected = model.generate(prompt, max_new_tokens=5, do_sample=False, eos_token_id=None)
    assert generated.tolist() == expected[:, 40:].tolist()
    assert reading.cache == 45 * 2 * 2 * 2 * 8 * 4 and reading.prefill > 0 and reading.decode > 0


def test_a_graph_reads_what_a_forward_does_and_is_made_before_it_is_timed(monkeypatch):
    model, read = convert_model(tiny_model(), LambdaConfig(LOCAL, 4, LOCAL)), []

    class Watched(DecodeGraph):
        def step(self, tokens):
            read.append(tokens.item())
            return super().step(tokens)

    monkeypatch.setattr(model_reading, "DecodeGraph", Watched)
    ordinary, graph = (read_and_generate(model, 40, tokens=5, graph=graph) for graph in (False, True))
    prompt = torch.randint(model.config.vocab_size, (1, 40), generator=torch.Generator().manual_seed(0))
    generated = model.generate(prompt, max_new_tokens=6, do_sample=False, eos_token_id=None)[0, 40:]
    assert read == generated.tolist()  # the first one for the capture
    assert graph.cache == ordinary.cache and graph.decode > 0


def test_rows_ratios_and_overhead_of_the_script(case, in_this_process, monkeypatch, capsys):
    words = ["--lengths", 128, 512, "--tokens", 3, "--repeats", 2, "--overhead_repeats", 2, "--local_branch", LOCAL]
    saved = run_main(monkeypatch, "--model", case["model"], *words, "--global_branch", 4)
    assert in_this_process == [(VANILLA, 128), (OURS, 128), (VANILLA, 512), (OURS, 512), (None, LOCAL - 3)]
    rows = {(row["method"], row["length"]): row for row in saved["rows"]}
    assert all(row["prefill_seconds"]["repeats"] == 2 and row["tokens_per_second"]["low"] > 0 for row in rows.values())
    assert rows[VANILLA, 512]["cache_mib"] / rows[VANILLA, 128]["cache_mib"] == pytest.approx(515 / 131)
    assert rows[OURS, 512]["cache_mib"] == rows[OURS, 128]["cache_mib"] < rows[VANILLA, 128]["cache_mib"]
    better = saved["times_better"][1]
    assert better["length"] == 512 and better["cache_mib"] > 10
    (overhead,) = saved["overhead"]["cases"]
    assert overhead["prefill"]["repeats"] == overhead["decode"]["repeats"] == 2
    printed = capsys.readouterr().out
    assert (
        "the paper" in printed and "2.70x" in printed and "7.50x" in printed and "29 tokens, time over van" in printed
    )
    assert saved["lambda_attention"] == {"local_branch": LOCAL, "global_branch": 4, "limit_distance": LOCAL}
    assert json.dumps(saved)


def test_a_process_of_its_own_measures_one_method(case):
    found = measure_apart(model_speed.__file__, {**case, "method": OURS, "length": 100, "tokens": 2})
    assert set(model_speed.QUANTITIES) < set(found)
    assert found["memory_mib"] < 200 < found["peak_in_all_mib"]  # that of the libraries is not the model's


def test_times_better_are_more_tokens_and_less_of_all_else():
    def row(method, seconds, speed, memory):
        spread = {"prefill_seconds": {"median": seconds}, "tokens_per_second": {"median": speed}}
        return {"panel": "7B", "method": method, "length": 64, **spread, "memory_mib": memory, "cache_mib": 2 * memory}

    (better,) = ratios([row(VANILLA, 9.0, 10.0, 300.0), row(OURS, 3.0, 25.0, 40.0)])
    assert [better[name] for name in model_speed.QUANTITIES] == [3, 2.5, 7.5, 7.5]
    (unknown,) = ratios([row(VANILLA, 9.0, 10.0, 300.0), row(OURS, 3.0, 25.0, -1.0)])
    assert unknown["memory_mib"] is None
    assert ratios([row(VANILLA, 9.0, 10.0, 300.0)]) == []


def test_the_overhead_compares_one_model_with_itself_converted(case, monkeypatch):
    seen = []

    def fake(model, length, tokens):
        seen.append(model)
        slow = 1.5 if is_converted(model) else 1.0
        return model_reading.Reading(prefill=slow * len(seen), decode=2.0 * slow, cache=0)

    monkeypatch.setattr(model_speed, "read_and_generate", fake)
    found = measure_overhead({**case, "length": 16, "repeats": 3})
    assert [is_converted(model) for model in seen] == [True, False, False, True, True, False, False, True]
    assert seen[0].lm_head.weight is seen[1].lm_head.weight
    assert found["decode"] == {"median": 1.5, "low": 1.5, "high": 1.5, "repeats": 3}
    assert found["prefill"]["median"] == pytest.approx(1.5 * 8 / 7)  # of 1.5 * 4/3, 1.5 * 5/6 and 1.5 * 8/7
    assert "decode +50.0 % (+50.0 to +50.0 over 3 pairs)" in overhead_lines([{"panel": "7B", **found}])


def test_the_large_model_has_random_weights(monkeypatch):
    monkeypatch.setattr(model_reading, "LlamaConfig", lambda: tiny_config("llama"))
    model = load(model_reading.RANDOM_7B, "bfloat16", "meta")
    assert model.dtype == torch.bfloat16 and not model.training


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("./none", "^--model ./none: there is no such folder"),
        ("llama2_7b", "^--model llama2_7b needs --device cuda: a model of this size is too slow for a CPU$"),
    ],
)
def test_an_impossible_model_is_one_sentence(model, said, monkeypatch):
    with pytest.raises(UserError, match=said):
        run_main(monkeypatch, "--model", model, "--lengths", 16)


def test_each_row_is_saved_as_soon_as_it_is_measured(case, monkeypatch):
    saved = []
    monkeypatch.setattr(
        model_speed, "save_results", lambda folder, name, device, results: saved.append(len(results["rows"]))
    )
    monkeypatch.setattr(model_speed, "measure_case", lambda script, measure, case: None if not case["method"] else ROW)
    monkeypatch.setattr(sys, "argv", ["model_speed.py", "--model", case["model"], "--lengths", "128", "512"])
    model_speed.main()
    assert saved == [1, 2, 3, 4]
