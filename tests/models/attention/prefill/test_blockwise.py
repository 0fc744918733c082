"""The softmax of a block: weights of any size against the dense definition, and when a block is done again."""

import dataclasses
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from models.attention import workers
from models.attention.prefill import blockwise, rolling_window
from models.lambda_attention import LambdaConfig
from tests.models.attention.attention_cases import Case, make_case

LENGTH, BLOCK = 40, 8
CONFIG = LambdaConfig(8, 3, 8, backend="blockwise")
FACTOR = 60.0
"""Scores of hundreds of nats: `2^score` leaves float32."""


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five blocks, one key head at a time."""
    monkeypatch.setattr(blockwise, "QUERY_BLOCK", BLOCK)
    monkeypatch.setattr(blockwise, "SCORE_BUFFER_BYTES", 1)


class _Operators(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def operators_of(case: Case) -> Counter:
    with _Operators() as operators:
        case.attend()
    return operators.calls


def negated(case: Case) -> Case:
    """A query that every key it attends to repels, by hundreds of nats: all its weights would vanish."""
    key = case.key.abs()
    return dataclasses.replace(case, query=-FACTOR * key, key=key)


@pytest.mark.parametrize("encoding", ["rotary", "alibi"])
@pytest.mark.parametrize("sign", [1, -1])
def test_scores_beyond_the_range_of_weights(sign, encoding):
    case = make_case(CONFIG, LENGTH, encoding, batch=2, key_heads=2)
    case = negated(case) if sign < 0 else dataclasses.replace(case, query=FACTOR * case.query)
    assert operators_of(case)["amax"], "nothing was beyond the range"
    torch.testing.assert_close(case.attend().double(), case.expected(), rtol=0, atol=1e-3)


@pytest.fixture
def long_pieces(monkeypatch: pytest.MonkeyPatch) -> int:
    """As few pieces as there may be; returns how many those of a head are."""
    monkeypatch.setattr(blockwise, "PIECES_PER_THREAD", 1)
    monkeypatch.setattr(blockwise.torch, "get_num_threads", lambda: 1)
    return -(-LENGTH // (BLOCK * blockwise.LONGEST_RUN))


def test_ordinary_scores_are_done_once(long_pieces):
    calls = operators_of(make_case(CONFIG, LENGTH, key_heads=2))
    assert calls["exp2_"] == 2 * (LENGTH // BLOCK) + 2 * long_pieces  # windows, and the first tokens of a piece at once
    assert not calls["amax"]


@pytest.mark.usefixtures("long_pieces")
def test_a_head_that_needed_its_largest_score_taken_off_is_done_twice_in_one_block_of_a_run():
    case = make_case(CONFIG, LENGTH, key_heads=2)
    factors = torch.tensor([1.0, FACTOR]).view(2, 1, 1)
    calls = operators_of(dataclasses.replace(case, query=case.query * factors))
    blocks, rest = divmod(calls["amax"], 3)  # the largest of the window, of the first tokens, and of both
    assert rest == 0
    assert 0 < blocks <= LENGTH // BLOCK
    again = 1 + (blocks - 1) // blockwise.LONGEST_RUN
    assert calls["exp2_"] == operators_of(case)["exp2_"] + blocks + again  # their first tokens, and a window again


def test_parts_of_unequal_numbers_of_heads(monkeypatch):
    """Three key heads, two at a time; of the last one only are sums beyond the range."""
    monkeypatch.setattr(blockwise, "SCORE_BUFFER_BYTES", 2 * 4 * BLOCK * (BLOCK + CONFIG.local_branch - 1))
    case = make_case(CONFIG, LENGTH - 3, key_heads=3)
    factors = torch.tensor([1.0, 1.0, FACTOR]).view(3, 1, 1)
    case = dataclasses.replace(case, query=case.query * factors)
    assert operators_of(case)["amax"]
    torch.testing.assert_close(case.attend().double(), case.expected(), rtol=0, atol=1e-3)


def test_large_values_under_large_weights_do_not_overflow():
    case = make_case(CONFIG, LENGTH)
    scaled = dataclasses.replace(case, query=20 * case.query, value=case.value * 1e18)
    assert operators_of(scaled)["amax"], "no weight was large"
    torch.testing.assert_close(scaled.attend().double(), scaled.expected(), rtol=0, atol=1e14)


def test_half_precision_beyond_the_range_of_weights():
    case = make_case(CONFIG, LENGTH, key_heads=2, dtype=torch.bfloat16)
    large = dataclasses.replace(case, query=FACTOR * case.query)
    assert operators_of(large)["amax"]
    assert large.attend().isfinite().all()


def test_float16_sums_of_many_keys_do_not_overflow():
    """Unnormalised, 4,000 weights of one over values of 30 would not fit."""
    case = make_case(LambdaConfig(4000, 3, 4000, backend="blockwise"), 4100, dtype=torch.float16)
    flat = dataclasses.replace(case, query=0 * case.query, value=case.value.abs() + 30)
    assert flat.attend()[..., -1, :].min() > 30 and flat.attend().max() < 40


@pytest.mark.parametrize("encoding", ["rotary", "alibi"])
@pytest.mark.parametrize(("local", "limit"), [(300, 300), (300, 200), (700, 700)])
def test_blocks_of_a_gpu_give_the_same(encoding, local, limit, monkeypatch):
    """Longer and shorter than the window, all heads at once, and without the blocks' own first tokens."""
    config = LambdaConfig(local, 5, limit, backend="blockwise")
    case = make_case(config, 1500, encoding, batch=2, key_heads=2, group=3)
    expected = case.attend()
    sizes = blockwise.GPU_QUERY_BLOCK, blockwise.GPU_SCORE_BUFFER_BYTES
    monkeypatch.setattr(blockwise, "_block_sizes", lambda segment, layer: sizes)
    torch.testing.assert_close(case.attend(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("encoding", ["rotary", "alibi"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_however_many_threads_share_the_work_the_numbers_are_the_same(encoding, dtype, monkeypatch):
    """To the last bit where each product is of one thread; scores beyond the range are in some heads only."""
    config = LambdaConfig(300, 5, 200 if encoding == "rotary" else 300, backend="blockwise")
    case = make_case(config, 1000, encoding, batch=2, key_heads=2, group=3, dtype=dtype)
    case = dataclasses.replace(case, query=case.query * torch.tensor([1.0, 1, 1, FACTOR, 1, 1]).view(6, 1, 1).to(dtype))
    monkeypatch.setattr(blockwise, "SCORE_BUFFER_BYTES", 2**18)
    shared = [case.attend() for _ in range(3)]
    monkeypatch.setattr(workers, "_pool", lambda count: None)
    alone = case.attend()
    torch.testing.assert_close(shared[0], alone, rtol=0, atol=2e-5 if dtype == torch.float32 else 1e-1)
    assert all(torch.equal(shared[0], other) for other in shared)


@pytest.mark.parametrize("at_once", [True, False])
def test_an_output_with_all_heads_of_a_token_side_by_side_is_written(at_once, monkeypatch):
    """As on a GPU, where rows and heads of a batch cannot be counted as one."""
    if at_once:
        sizes = blockwise.GPU_QUERY_BLOCK, blockwise.GPU_SCORE_BUFFER_BYTES
        monkeypatch.setattr(blockwise, "_block_sizes", lambda segment, layer: sizes)
    case = make_case(CONFIG, LENGTH, batch=2, key_heads=2, group=3)
    expected = case.attend()
    monkeypatch.setattr(
        rolling_window,
        "new_output",
        lambda query, value: torch.full((2, LENGTH, 6, value.shape[-1]), torch.nan).transpose(1, 2),
    )
    torch.testing.assert_close(case.attend(), expected, rtol=0, atol=2e-6)
