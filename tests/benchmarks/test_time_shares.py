"""Where the time of a run goes: shares of one, measured on a tiny model, and a part of it that is made slow."""

import time

import pytest
import torch

from benchmarks import time_shares
from benchmarks.measuring import cpu_runs
from benchmarks.measuring.shapes import Shape
from models.lambda_attention import LambdaConfig
from tests.tiny_models import tiny_model
from utils.errors import UserError

LENGTH = 300


@pytest.fixture
def case(tiny_llama_dir):
    config = LambdaConfig(32, 4, 32).to_dict()
    settings = {"model": str(tiny_llama_dir), "dtype": "float32", "length": LENGTH, "chunk": 100}
    return {**settings, "method": "text", "lambda_attention": config}


@pytest.mark.parametrize("run", time_shares.RUNS)
def test_shares_are_of_the_whole(case, run):
    found = time_shares.measure({**case, "method": run})
    shares = [found[name] for name in time_shares.QUANTITIES]
    assert sum(shares) == pytest.approx(1) and all(0 < share < 1 for share in shares)
    assert 0 < found["of_product_rate"] < 1 and found["tokens_per_second"] > 0
    assert 1 <= len(found["operations"]) <= time_shares.MOST_OPERATIONS
    assert not {"mm", "addmm"} & found["operations"].keys()
    assert sum(found["operations"].values()) < found["neither"]


def slow_product(x: torch.Tensor) -> torch.Tensor:
    time.sleep(0.2)
    return x @ x


def test_products_within_attention_are_attention(monkeypatch):
    """One that is slept in, and one outside of it."""
    x = torch.randn(1500, 1500)

    class InferenceOnly(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return slow_product(x)

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled:
        begin = time.perf_counter()
        InferenceOnly.apply(x)
        inside = time.perf_counter() - begin
        for _ in range(3):
            x @ x
        torch.relu(x)
        whole = time.perf_counter() - begin
    found = time_shares.shares(profiled.events(), whole)
    assert found["attention"] == pytest.approx(inside / whole, abs=0.05)
    assert 0 < found["products"] < 1 - found["attention"] + 0.01
    assert "relu" in found["operations"] or "clamp_min" in found["operations"]


def test_operations_of_a_run_are_those_of_its_layers(case):
    model = tiny_model()
    linear = [x for x in model.modules() if isinstance(x, torch.nn.Linear)]
    assert time_shares.linear_flops(model, 10) == 20 * sum(x.in_features * x.out_features for x in linear)
    config = model.config
    shape = Shape("", config.num_attention_heads, config.num_key_value_heads, 8, 32, 4)
    assert time_shares.attention_flops(model, case) == config.num_hidden_layers * shape.flops(LENGTH)


def test_the_whole_script_says_what_it_wrote(tiny_llama_dir, tmp_path, monkeypatch, capsys):
    words = ["--model", tiny_llama_dir, "--length", 128, "--chunk", 50, "--dtypes", "float32", "--local_branch", 32]
    monkeypatch.setattr("sys.argv", ["time_shares.py", *map(str, words), "--out", str(tmp_path)])
    asked = []
    monkeypatch.setattr(
        cpu_runs, "measure_apart", lambda script, case, env: asked.append(env) or time_shares.measure(case)
    )
    time_shares.main()
    assert [env["GOMP_SPINCOUNT"] for env in asked] == ["2000", "2000"]
    assert (tmp_path / "time_shares_cpu.json").is_file()
    said = capsys.readouterr().out
    assert "text" in said and "stream" in said and "wrote" in said


def test_where_memory_runs_out_it_is_one_sentence(tiny_llama_dir, monkeypatch):
    monkeypatch.setattr("sys.argv", ["time_shares.py", "--model", str(tiny_llama_dir), "--dtypes", "float32"])
    monkeypatch.setattr(cpu_runs, "measure_apart", lambda *given, **options: None)
    with pytest.raises(UserError, match="--length 16384: memory ran out"):
        time_shares.main()
