"""The weights of a window, by the compiled pass and by torch, against their definition."""

import pytest
import torch
from torch import Tensor

from models.attention.native import library
from models.attention.prefill import window_weights
from models.attention.prefill.segment_scores import WindowScores
from models.attention.prefill.window_weights import weigh_columns, weigh_window
from models.lambda_attention import LambdaConfig
from tests.models.attention.attention_cases import make_case

built = pytest.mark.skipif(window_weights.built_pass() is None, reason="needs what `make kernel` compiles")
passes = pytest.mark.parametrize(
    ("is_built", "dtype"),
    [
        pytest.param(True, torch.bfloat16, marks=built),
        (False, torch.bfloat16),
        (False, torch.float32),
        (False, torch.float64),
    ],
)


@pytest.fixture
def taken(monkeypatch):
    """Calls of the compiled pass. `taken(False)` takes it away first."""
    run, calls = window_weights.built_pass(), []

    def counted(*arguments: int) -> None:
        calls.append(arguments)
        run(*arguments)

    def choose(is_built: bool) -> list:
        monkeypatch.setattr(window_weights, "built_pass", lambda: counted if is_built else None)
        return calls

    return choose


def window_scores(values: Tensor, queries: int) -> WindowScores:
    """A copy of values `[heads, rows, columns]`, with its views."""
    scores = values.clone()
    by_query_head = scores.view(-1, queries, values.shape[-1])
    return WindowScores(scores, by_query_head[..., :queries], by_query_head[..., -queries:])


@passes
@pytest.mark.parametrize(
    ("heads", "group", "queries", "columns", "oldest"),
    [
        (1, 3, 256, 2303, 0),  # a whole block, by several threads
        (3, 1, 8, 15, 0),
        (2, 2, 7, 30, -3),  # the first queries reach back to the first token
        (2, 2, 7, 30, -40),  # all of them do
        (2, 2, 7, 9, 0),  # a window of fewer keys than a block has queries
        (1, 2, 5, 5, 0),  # a window of one key
        (1, 1, 1, 1, 0),
        (1, 4, 1, 64, 0),
    ],
)
def test_weights_and_sums(taken, is_built, dtype, heads, group, queries, columns, oldest):
    calls = taken(is_built)
    values = 6 * torch.randn(heads, group * queries, columns, generator=torch.Generator().manual_seed(0))
    scores = window_scores(values.to(dtype), queries)
    exact = scores.all.double().exp2()
    query, column = torch.arange(group * queries)[:, None] % queries, torch.arange(columns)
    is_within = (column >= oldest + query) & (column <= columns - queries + query)

    sums = weigh_window(scores, oldest)
    weights = scores.all.double()
    assert len(calls) == is_built
    assert (weights.masked_select(~is_within) == 0).all()
    error = (weights / exact - 1).masked_select(is_within)
    assert error.abs().max() <= 1.01 * max(torch.finfo(dtype).eps / 2, 1e-6)
    assert sums.shape == (heads, group * queries, 1) and sums.dtype == torch.promote_types(dtype, torch.float32)
    rounding = 1e-5 if is_built else max(torch.finfo(dtype).eps, 1e-5)  # torch's sum of bfloat16 is a bfloat16
    torch.testing.assert_close(sums.double(), weights.sum(-1, keepdim=True), rtol=rounding, atol=0)


@passes
@pytest.mark.parametrize("oldest", [-9, -3, 0, 4, 14])
@pytest.mark.parametrize("newest", [-9, -2, 1, 6, 10, 30])
def test_columns_between_any_bounds(taken, is_built, dtype, oldest, newest):
    """All, some, or none of them, of each of two heads' queries."""
    taken(is_built)
    queries, columns = 5, 12
    weights = torch.randn(2 * queries, columns, generator=torch.Generator().manual_seed(0)).to(dtype)
    exact = weights.double().exp2()
    query, column = torch.arange(2 * queries)[:, None] % queries, torch.arange(columns)
    exact[(column < oldest + query) | (column >= newest + query)] = 0
    sums = weigh_columns(weights, queries, oldest, newest)
    tolerance = max(torch.finfo(dtype).eps, 1e-5)
    torch.testing.assert_close(weights.double(), exact, rtol=tolerance, atol=0)
    torch.testing.assert_close(sums.double(), weights.double().sum(-1, keepdim=True), rtol=2 * tolerance, atol=0)


@passes
def test_scores_that_no_weight_holds(taken, is_built, dtype):
    """What is too small counts for nothing, what is too large makes the sum unsafe, NaN is not lost."""
    taken(is_built)
    small, large = [-2e3, -1.5e7, -1e14, -1e30, -torch.inf], [200.0, 1.5e7, 1e14, 1e30]
    extremes = torch.tensor([*small, *large, torch.nan], dtype=dtype)
    values = torch.zeros(1, len(extremes), 8, dtype=dtype)
    values[0, :, 0] = extremes
    sums = weigh_window(window_scores(values, 1), 0).squeeze()
    assert (sums[: len(small)] == 7).all()
    assert (sums[len(small) : -1] > 2.0**100).all()
    assert sums[-1].isnan()


@built
def test_attention_takes_it_and_stays_as_exact(taken):
    case = make_case(LambdaConfig(24, 3, 24, backend="blockwise"), 300, key_heads=2, dtype=torch.bfloat16)
    expected, errors = case.expected(), {}
    for is_built in (False, True):
        calls = taken(is_built)
        errors[is_built] = (case.attend().double() - expected).abs()
    assert calls
    assert errors[True].max() <= 0.03
    assert errors[True].mean() <= 1.05 * errors[False].mean()


def test_bfloat16_without_it_says_so_once(taken, caplog):
    taken(False)
    library.say_not_built.cache_clear()
    weigh_window(window_scores(torch.zeros(1, 4, 8), 4), 0)
    assert not caplog.messages
    for _ in range(2):
        weigh_window(window_scores(torch.zeros(1, 4, 8, dtype=torch.bfloat16), 4), 0)
    (said,) = caplog.messages
    assert said.startswith("libattention.so is not there for this machine: torch does the same")


@built
def test_it_is_for_bfloat16_only(taken):
    calls = taken(True)
    weigh_window(window_scores(torch.zeros(1, 4, 8), 4), 0)
    assert not calls
