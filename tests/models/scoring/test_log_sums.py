"""The compiled log-sum-exp of bfloat16 logits against torch's in float64, and who takes it."""

import pytest
import torch
from torch.nn import functional as F

from models.scoring import log_sums as module
from models.scoring.log_sums import log_sums
from models.scoring.nll_scorer import NllScorer, _loss
from tests.tiny_models import tiny_input_ids, tiny_model

NEGATIVE_NAN = torch.tensor(-64, dtype=torch.int16).view(torch.bfloat16)

pytestmark = pytest.mark.skipif(module.built_pass() is None, reason="needs what `make kernel` compiles")


@pytest.mark.parametrize("rows, vocabulary", [(1, 1), (3, 7), (5, 2048), (33, 2049), (40, 49_152), (0, 10)])
@pytest.mark.parametrize("spread", [0.0, 1.0, 50.0])
def test_is_as_exact_as_its_exponentials(rows, vocabulary, spread):
    logits = (spread * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(0))).bfloat16()
    found = log_sums(logits)
    assert found.dtype == torch.float64 and found.shape == (rows,)
    torch.testing.assert_close(found, logits.double().logsumexp(-1), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "place, value", [(0, -torch.inf), (9, 3e38), (17, -3e38), (31, torch.nan), (3, NEGATIVE_NAN), (8, torch.inf)]
)
def test_logits_that_say_no_or_nothing(place, value):
    logits = torch.randn(3, 33, generator=torch.Generator().manual_seed(0)).bfloat16()
    logits[1, place] = value
    logits[2] = -torch.inf
    expected = F.cross_entropy(logits.float(), torch.zeros(3, dtype=torch.int64), reduction="none")
    found = (log_sums(logits) - logits[:, 0]).float()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=2e-6, equal_nan=True)
    assert found[0].isfinite()


def test_every_bfloat16_is_in_its_order():
    """The largest of a row is found by its bits."""
    finite = torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.bfloat16)
    finite = finite[finite.isfinite()]
    pairs = torch.stack([finite, finite[torch.randperm(len(finite), generator=torch.Generator().manual_seed(0))]], 1)
    torch.testing.assert_close(log_sums(pairs), pairs.double().logsumexp(-1), rtol=1e-15, atol=1e-6)


def test_rows_apart_in_memory():
    logits = torch.randn(6, 40).bfloat16()
    assert torch.equal(log_sums(logits[::2, :30]), log_sums(logits[::2, :30].contiguous()))


def test_none_where_it_is_not_the_same():
    assert log_sums(torch.randn(2, 9)) is None
    assert log_sums(torch.randn(2, 9).half()) is None
    assert log_sums(torch.randn(2, 9).bfloat16().requires_grad_()) is None
    assert log_sums(torch.empty(2, 9, dtype=torch.bfloat16, device="meta")) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert log_sums(torch.randn(2, 9).bfloat16()) is None


def test_a_loss_near_nothing_keeps_its_digits():
    logits = torch.full((1, 1000), 984.0, dtype=torch.bfloat16)
    logits[0, 3] = 1000
    exact = F.cross_entropy(logits.double(), torch.tensor([3]), reduction="none")
    assert 1e-4 < exact < 2e-4
    torch.testing.assert_close(_loss(logits, torch.tensor([3])).double(), exact, rtol=2e-2, atol=0)


@torch.no_grad()
def test_the_loss_of_a_model_takes_it(monkeypatch):
    model, ids, run, calls = tiny_model().bfloat16(), tiny_input_ids(2, 40), module.built_pass(), []
    monkeypatch.setattr(module, "built_pass", lambda: lambda *arguments: calls.append(1) or run(*arguments))
    found = NllScorer(model)(ids)
    assert calls
    monkeypatch.setattr(module, "built_pass", lambda: None)
    torch.testing.assert_close(found, NllScorer(model)(ids), rtol=1e-6, atol=2e-6)


@torch.no_grad()
def test_a_target_beyond_the_vocabulary_is_an_error():
    model, ids = tiny_model().bfloat16(), tiny_input_ids(1, 9)
    with pytest.raises(RuntimeError, match="out of bounds"):
        NllScorer(model).score(torch.zeros(1, 9, model.config.hidden_size, dtype=torch.bfloat16), ids + 10**6)
