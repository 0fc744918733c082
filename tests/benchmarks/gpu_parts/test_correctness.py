"""The correctness cases: which shapes there are, and that a backend which is wrong by one token is found."""

from dataclasses import replace

import pytest
import torch

from benchmarks.gpu_parts import captured_steps, correctness
from benchmarks.gpu_parts.captured_steps import compare_steps, every_shape
from benchmarks.gpu_parts.correctness import compare
from benchmarks.gpu_parts.errors import errors
from benchmarks.gpu_parts.scenarios import Scenario, scenarios
from benchmarks.gpu_parts.sizes import FULL, Plan
from models.attention.decode.cache import LambdaCache
from models.attention.settings import ON_GPU
from models.decode_graph import DecodeGraph
from utils.errors import UserError

SCENARIOS = {scenario.name: scenario for scenario in scenarios(32, 1100)}
FLOAT32, BFLOAT16 = torch.float32, torch.bfloat16


@pytest.fixture(autouse=True)
def no_reference_of_another_test():
    correctness._reference.cache_clear()


def off_by_one(scenario, name):
    """The same with one token more or less somewhere."""
    return replace(scenario, config=replace(scenario.config, **{name: getattr(scenario.config, name) - 1}))


def test_every_shape_that_a_kernel_can_be_wrong_at_is_there():
    heads = {(s.query_heads, s.key_heads, s.head_dim) for s in SCENARIOS.values()}
    assert heads >= {(9, 3, 64), (9, 3, 80), (9, 3, 96), (32, 32, 128), (4, 2, 8)}
    found = list(SCENARIOS.values())
    assert any(s.config.caps_window for s in found) and any(s.alibi for s in found) and any(s.inside for s in found)
    assert any(s.rows == 2 for s in found) and any(len(s.chunks) > 1 for s in found)
    assert any(s.start < 10**9 < s.start + sum(s.chunks) for s in found)
    assert all(sum(s.chunks) % 128 for s in found)  # a last block that is not whole
    names = [case.name for case in correctness.cases(Plan("cpu", FULL))]
    assert len(names) == len(set(names))
    assert all(f"{s.name}, bfloat16, {backend}" in names for s in found for backend in ON_GPU)


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("dtype", [FLOAT32, BFLOAT16], ids=str)
def test_a_backend_that_is_right_keeps_its_bound(name, dtype):
    found = compare(SCENARIOS[name], "auto", dtype, "cpu")
    assert found["passed"] and found["largest_error"] <= found["bound"] < 0.1


@pytest.mark.parametrize("wrong", ["local_branch", "global_branch", "limit_distance"])
@pytest.mark.parametrize("name", ["9/3 heads of 64", "32 heads of 128"])
def test_one_token_too_few_is_found_in_bfloat16(name, wrong, monkeypatch):
    scenario, read = SCENARIOS[name], Scenario.read

    def read_wrongly(self, tensors, backend, device, dtype):
        self = off_by_one(self, wrong) if backend == "auto" else self
        return read(self, tensors, backend, device, dtype)

    monkeypatch.setattr(Scenario, "read", read_wrongly)
    found = compare(scenario, "auto", BFLOAT16, "cpu")
    assert not found["passed"] and found["largest_error"] > 3 * found["bound"]


def test_a_part_of_a_larger_storage_is_one(monkeypatch):
    scenario, seen = SCENARIOS["keys of part of a larger storage"], []
    from benchmarks.gpu_parts import scenarios as module

    attend = module.lambda_attention
    monkeypatch.setattr(module, "lambda_attention", lambda *x: seen.append(x[1]) or attend(*x))
    scenario.read(scenario.tensors(FLOAT32), "auto", "cpu", FLOAT32)
    (key,) = seen
    assert key.untyped_storage().nbytes() > key.nbytes and key.storage_offset() and not key.is_contiguous()


def test_continued_prompts_and_far_positions_are_as_those_read_at_once():
    plain, continued = SCENARIOS["9/3 heads of 64"], SCENARIOS["a continued prompt"]
    at_once = replace(continued, chunks=(sum(continued.chunks),))
    tensors = continued.tensors(FLOAT32)
    found, expected = (x.read(tensors, "blockwise", "cpu", FLOAT32) for x in (continued, at_once))
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)
    near, far = (replace(plain, start=start, config=replace(plain.config, global_branch=0)) for start in (64, 10**9))
    found, expected = (x.read(near.tensors(FLOAT32), "blockwise", "cpu", FLOAT32) for x in (near, far))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)  # distances are the same; tables are float32


@pytest.mark.parametrize("steps", list(every_shape(32)), ids=lambda steps: steps.name)
def test_a_captured_step_keeps_its_bound(steps):
    found = compare_steps(steps, FLOAT32, "cpu")
    assert found["passed"] and found["largest_error"] < 1e-5


def test_a_captured_step_that_writes_nothing_is_found(monkeypatch):
    class Stuck(DecodeGraph):
        def step(self, tokens):
            logits = super().step(tokens)
            self._position -= 1
            return logits

    monkeypatch.setattr(captured_steps, "DecodeGraph", Stuck)
    assert not compare_steps(next(every_shape(32)), FLOAT32, "cpu")["passed"]


def test_the_steps_begin_short_of_the_window_or_far_away():
    for steps in every_shape(32):
        model = steps.model("cpu", FLOAT32)
        tokens = torch.zeros(steps.rows, 27, dtype=torch.int64)
        with torch.no_grad():
            cache = steps.cache(model, tokens)
        assert isinstance(cache, LambdaCache) and set(cache.layers[-1].seen) == {steps.start or 27}


@pytest.mark.parametrize("name", ["a limit inside the window", "9/3 heads of 64"])
def test_a_backend_that_cannot_do_it_refuses(name):
    with pytest.raises(UserError, match="flash"):
        compare(SCENARIOS[name], "flash", BFLOAT16, "cpu")


def test_errors_are_shares_and_a_nan_passes_nothing():
    expected = torch.tensor([2.0, -4.0])
    found = errors(expected + torch.tensor([0.0, 0.4]), expected, bound=0.1001)
    assert found["largest_error"] == pytest.approx(0.1) and found["passed"]
    assert found["mean_error"] == pytest.approx(0.4 / 20**0.5)
    assert not errors(expected * float("nan"), expected, bound=1.0)["passed"]
