"""The sliced loss against the model's own logits, and what it costs in memory."""

from pathlib import Path

import pytest
import torch
from accelerate import dispatch_model
from torch.nn import functional as F

from data.tokenization import pad_right
from models.constant import ConstantConfig, ConstantModel
from models.model_base import supported_model_types
from models.scoring import log_sums, nll_scorer
from models.scoring.nll_scorer import NllScorer
from models.scoring.stream_scorer import StreamScorer
from tests.tiny_models import lacks_type, tiny_input_ids, tiny_model
from utils.ranks.runtime import peak_memory

pytestmark = pytest.mark.core

SCALED = {"logits_scaling": 8.0}
OVERRIDES = {"granite": SCALED, "granitemoe": SCALED, "hyperclovax": SCALED}
CASES = [
    (model_type, OVERRIDES.get(model_type, {}))
    for model_type in (*supported_model_types(), "gpt2")
    if not lacks_type(model_type)
]


def nll_from_full_logits(model, input_ids):
    with torch.no_grad():
        logits = model(input_ids).logits.double()
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), input_ids[:, 1:].flatten(), reduction="none").view(
        len(input_ids), -1
    )


def score(model, input_ids):
    with torch.no_grad():
        return NllScorer(model)(input_ids)


@pytest.mark.parametrize("model_type, overrides", CASES)
@pytest.mark.parametrize("length", [2, 40])
def test_equals_the_models_own_logits(model_type, overrides, length, monkeypatch):
    monkeypatch.setattr(nll_scorer, "SLICE_POSITIONS", 7)
    model, input_ids = tiny_model(model_type, **overrides), tiny_input_ids(2, length)
    nll = score(model, input_ids)
    assert nll.dtype == torch.float32 and nll.shape == (2, length - 1)
    torch.testing.assert_close(nll.double(), nll_from_full_logits(model, input_ids), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name, value", [("logit_scale", 0.25), ("final_logit_softcapping", 5.0)])
def test_logit_transforms_of_other_families(name, value):
    model, input_ids = tiny_model("llama"), tiny_input_ids(1, 9)
    logits = model(input_ids).logits.detach().double()
    logits = logits * value if name == "logit_scale" else value * torch.tanh(logits / value)
    setattr(model.config, name, value)
    expected = F.cross_entropy(logits[0, :-1], input_ids[0, 1:], reduction="none")
    torch.testing.assert_close(score(model, input_ids)[0].double(), expected, rtol=1e-5, atol=1e-5)


def test_padding_on_the_right_changes_no_row():
    model, rows = tiny_model("llama"), [tiny_input_ids(1, n, seed=n)[0].tolist() for n in (3, 17, 9)]
    together = score(model, pad_right(rows))
    for row, ids in zip(together, rows):
        torch.testing.assert_close(row[: len(ids) - 1], score(model, torch.tensor([ids]))[0], rtol=1e-5, atol=1e-5)


def test_the_head_is_one_module_call_and_its_forward_comes_back(monkeypatch):
    monkeypatch.setattr(nll_scorer, "SLICE_POSITIONS", 4)
    model, calls = tiny_model("llama"), []
    handle = model.lm_head.register_forward_pre_hook(lambda *_: calls.append(1))
    score(model, tiny_input_ids(1, 30))
    assert len(calls) == 1
    handle.remove()
    assert "forward" not in vars(model.lm_head)
    assert model(tiny_input_ids(1, 5)).logits.shape[-1] == model.config.vocab_size


def test_a_head_with_device_hooks_keeps_them():
    model, input_ids = tiny_model("llama"), tiny_input_ids(1, 9)
    expected = score(model, input_ids)
    hooked = dispatch_model(model, {"": "cpu"}, force_hooks=True)
    before = hooked.lm_head.forward
    torch.testing.assert_close(score(hooked, input_ids), expected)
    assert hooked.lm_head.forward is before


def test_no_slice_holds_more_logits_than_its_budget(monkeypatch):
    monkeypatch.setattr(nll_scorer, "SLICE_LOGITS", 3000)
    model = tiny_model("llama", vocab_size=1000)
    project, widths = model.lm_head.forward, []
    model.lm_head.forward = lambda hidden: widths.append(hidden.shape[1]) or project(hidden)
    with torch.no_grad():
        hidden = model.model(tiny_input_ids(1, 20))[0][:, :-1]
    targets = tiny_input_ids(1, 20)[:, 1:]
    with nll_scorer.scoring_head(model.lm_head, targets, model.config):
        model.lm_head(hidden)
    assert sum(widths) == 19 and max(widths) == 3


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak can be reset on Linux only")
def test_memory_is_nowhere_near_all_logits():
    length, vocabulary = 16384, 50_000  # 3.3 GB of float32 logits
    model = ConstantModel(ConstantConfig(vocab_size=vocabulary, answer_ids=[1, 2]))
    input_ids = torch.randint(vocabulary, (1, length))
    score(model, input_ids[:, :600])
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = peak_memory(torch.device("cpu"))
    score(model, input_ids)
    assert peak_memory(torch.device("cpu")) - before < 0.15 * length * vocabulary * 4


def test_half_precision_loss_is_taken_in_float32():
    model = tiny_model("llama").to(torch.bfloat16)
    input_ids = tiny_input_ids(1, 12)
    assert score(model, input_ids).dtype == torch.float32
    torch.testing.assert_close(score(model, input_ids).double(), nll_from_full_logits(model, input_ids))


@pytest.fixture
def fused(monkeypatch):
    """Scoring as on a GPU: compiled here for the CPU."""
    monkeypatch.setattr(nll_scorer, "_takes_fused", lambda logits: True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("spread", [0.0, 1.0, 50.0])
def test_the_fused_loss_is_the_same(dtype, spread):
    generator = torch.Generator().manual_seed(0)
    for rows in (1, 2, 33):
        logits = (spread * torch.randn(rows, 1000, generator=generator)).to(dtype)
        targets = torch.randint(1000, (rows,), generator=generator)
        fused_loss = nll_scorer._fused_loss()(logits, targets)
        assert fused_loss.dtype == torch.float32
        torch.testing.assert_close(fused_loss, nll_scorer._loss(logits, targets), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("model_type", ["llama", "granite", "mpt"])
def test_texts_score_the_same_with_the_fused_loss(model_type, request):
    model, input_ids = tiny_model(model_type, **OVERRIDES.get(model_type, {})), tiny_input_ids(2, 40)
    expected = score(model, input_ids)
    request.getfixturevalue("fused")
    torch.testing.assert_close(score(model, input_ids), expected, rtol=1e-6, atol=1e-6)


def test_slices_on_a_gpu_are_larger():
    logits = torch.empty(1, 1, 49_152, dtype=torch.bfloat16)
    assert nll_scorer._positions_at_once(logits, fused=True) == 5461
    assert nll_scorer._positions_at_once(logits, fused=False) == 341


@torch.no_grad()
def test_nothing_is_compiled_where_that_is_not_wanted(fused, monkeypatch):
    monkeypatch.setattr(nll_scorer, "_fused_loss", lambda: pytest.fail("a loss was to be compiled"))
    model, input_ids = tiny_model("llama"), tiny_input_ids(1, 12)
    for scorer in (NllScorer(model, compiled=False), StreamScorer(model, compiled=False)):
        assert scorer(input_ids).shape == (1, 11)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak can be reset on Linux only")
def test_the_fused_loss_copies_no_logits():
    logits, targets = torch.randn(3000, 50_000).bfloat16(), torch.randint(50_000, (3000,))  # 300 MB
    loss = nll_scorer._fused_loss()
    loss(logits[:2], targets[:2])
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = peak_memory(torch.device("cpu"))
    loss(logits, targets)
    assert peak_memory(torch.device("cpu")) - before < 0.25 * logits.nbytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_loss_of_some_positions_at_a_time_is_the_same_to_the_last_bit(dtype, monkeypatch):
    logits, targets = 9 * torch.randn(50, 300).to(dtype), torch.randint(300, (50,))
    expected = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
    monkeypatch.setattr(nll_scorer, "CACHED_LOGITS", 7 * 300)
    monkeypatch.setattr(log_sums, "built_pass", lambda: None)
    assert torch.equal(nll_scorer._loss(logits, targets), expected)
