"""Ways to decode a token on the CPU, beside each other: the same logits, and what compiling costs is counted."""

import pytest
import torch

from benchmarks import static_step
from benchmarks.measuring import cpu_runs
from models.assumptions import cache_of
from models.lambda_attention import LambdaConfig
from models.model_base import convert_model
from tests.tiny_models import tiny_input_ids, tiny_model
from utils.errors import UserError

CONFIG = LambdaConfig(8, 3, 8)


@pytest.fixture(autouse=True)
def fast_compiler(monkeypatch):
    monkeypatch.setitem(static_step.BACKENDS, static_step.COMPILED, "aot_eager")


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
@pytest.mark.parametrize("method", static_step.BACKENDS)
@torch.no_grad()
def test_each_way_gives_the_logits_of_the_ordinary_forward(method, dtype, tolerance):
    model, prompt = convert_model(tiny_model().to(dtype), CONFIG), tiny_input_ids(1, 20)
    found = {}
    for way in (static_step.FORWARD, method):
        step = static_step.step_by(way, model, cache_of(model(input_ids=prompt, use_cache=True)))
        found[way] = step(step(prompt[:, -1:]).argmax(-1)).clone()
    torch.testing.assert_close(found[method], found[static_step.FORWARD], rtol=tolerance, atol=tolerance)


def test_what_compiling_took_is_won_back_by_what_each_token_gains():
    forward = {"tokens_per_second": 20.0, "first_seconds": 0.5}
    compiled = {"tokens_per_second": 25.0, "first_seconds": 60.5}
    assert static_step.tokens_to_win_back(compiled, forward) == pytest.approx(6000)
    assert static_step.tokens_to_win_back(compiled | {"tokens_per_second": 19.0}, forward) is None


@pytest.fixture
def words(tiny_llama_dir, tmp_path):
    flags = ["--model", tiny_llama_dir, "--length", 30, "--tokens", 3, "--dtypes", "float32", "--local_branch", 32]
    return ["static_step.py", *map(str, flags), "--out", str(tmp_path)]


def test_the_whole_script_says_what_it_wrote(words, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", words)
    monkeypatch.setattr(cpu_runs, "measure_apart", lambda script, case, env: static_step.measure(case))
    static_step.main()
    assert (tmp_path / "static_step_cpu.json").is_file()
    said = capsys.readouterr().out
    assert all(said.count(method) for method in (static_step.FORWARD, *static_step.BACKENDS)) and "wrote" in said


def test_a_prompt_shorter_than_the_first_tokens_is_refused(words, monkeypatch):
    monkeypatch.setattr("sys.argv", [*words, "--length", "9"])
    with pytest.raises(UserError, match="--length 9 is shorter than --global_branch 10"):
        static_step.main()


def test_where_memory_runs_out_it_is_one_sentence_and_earlier_results_stay(words, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", words)
    monkeypatch.setattr(cpu_runs, "measure_apart", lambda *given, **options: None)
    (tmp_path / "static_step_cpu.json").write_text("earlier")
    with pytest.raises(UserError, match="--length 30: memory ran out"):
        static_step.main()
    assert (tmp_path / "static_step_cpu.json").read_text() == "earlier"
