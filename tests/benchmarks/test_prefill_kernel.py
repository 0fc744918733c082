"""The prefill benchmark compares what computes the same thing, and counts its floor right."""

from argparse import Namespace
from dataclasses import replace

import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention

from benchmarks import prefill_kernel
from benchmarks.alternatives.backends import by_backend
from benchmarks.alternatives.lambda_mask import lambda_mask
from benchmarks.alternatives.published import published_attention
from benchmarks.measuring.shapes import SMOLLM2
from benchmarks.measuring.timing import Timing
from models.attention.prefill import choice
from models.lambda_attention import lambda_attention
from tests.fake_cuda import GPU, fake_cuda
from utils.errors import UserError

SHAPE = replace(SMOLLM2, local_branch=64, global_branch=5)
CPU = torch.device("cpu")


def attended(length: int) -> torch.Tensor:
    distance = torch.arange(length)[:, None] - torch.arange(length)
    return (distance >= 0) & ((distance < 64) | (torch.arange(length) < 5))


@pytest.mark.parametrize("length", [1, 63, 64, 66, 300])
def test_the_floor_counts_exactly_the_attended_pairs(length):
    assert SHAPE.attended_pairs(length) == int(attended(length).sum())


@pytest.mark.parametrize("length", [50, 64, 300])
def test_the_published_algorithm_gives_the_same(length, monkeypatch):
    tensors = SHAPE.inputs(length, "cpu", torch.float64)  # float32 would round by as much as the bound
    expected = lambda_attention(*tensors, SHAPE.layer())
    torch.testing.assert_close(published_attention(*tensors, SHAPE.layer()), expected, rtol=0, atol=2e-6)
    monkeypatch.setattr("benchmarks.alternatives.published.HEADWISE_LENGTH", 1)
    torch.testing.assert_close(published_attention(*tensors, SHAPE.layer()), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("length", [64, 300])
def test_the_mask_for_flex_attention_is_the_lambda(length):
    query, key, value = SHAPE.inputs(length, "cpu", torch.float32)
    mask = lambda_mask(length, 64, 5, CPU)
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=attended(length), enable_gqa=True
    )
    torch.testing.assert_close(
        flex_attention(query, key, value, block_mask=mask, enable_gqa=True), expected, rtol=0, atol=2e-6
    )


def test_what_would_take_too_long_is_left_out():
    expectation = prefill_kernel.Expectation(limit=10.0)
    expectation.measured(1000, {"dense causal": Timing.of([1.0]), "window": Timing.of([1.0])})
    assert not expectation.allows("dense causal", 4000)
    assert expectation.allows("window", 4000)


def test_what_is_nearly_the_same_has_a_share_of_that():
    expectation = prefill_kernel.Expectation(limit=9.0, share=1 / 3)
    names = ("Λ-attention", "window", "Λ-attention, blockwise", "flex_attention, no cap", "published")
    expectation.measured(1000, dict.fromkeys(names, Timing.of([1.0])))
    assert [name for name in names if not expectation.allows(name, 4000)] == ["window", "Λ-attention, blockwise"]
    assert all(expectation.allows(name, 2000) for name in names)
    assert not any(expectation.allows(name, 10_000) for name in names)


def test_the_gain_over_dense_is_a_share_of_what_fewer_pairs_allow():
    """300 queries have 45,150 pairs with the keys up to them."""
    pairs = SHAPE.attended_pairs(300)
    timings = {"dense causal": Timing.of([45_150.0]), "Λ-attention": Timing.of([2.0 * pairs])}
    assert prefill_kernel._gain(SHAPE, 300, timings) == {"of_allowed": 0.5}
    assert prefill_kernel._gain(SHAPE, 300, {"Λ-attention": Timing.of([1.0])}) == {}


def test_a_panel_has_a_row_for_each_method_and_a_floor(monkeypatch):
    monkeypatch.setattr(prefill_kernel, "_compiled_flex", lambda: flex_attention)
    arguments = Namespace(lengths=[128], device="cpu", repeats=1, budget=1.0, limit=60.0)
    floors = {}
    rows = [
        row
        for others in (True, False)
        for found in prefill_kernel.measure_panel(SHAPE, torch.float32, arguments, others, floors)
        for row in found
    ]
    methods = {row["method"] for row in rows if not row["method"].startswith("Λ-attention, ")}
    assert methods == {"floor", "Λ-attention", "window", "dense causal", "flex_attention, no cap", "published"}
    assert all(row["panel"] == "SmolLM2-135M, float32" and row["length"] == 128 for row in rows)
    (floor,) = (row["seconds"] for row in rows if row["method"] == "floor")
    for row in rows[1:]:
        assert row["of_floor"] == row["seconds"]["median"] / floor
    header, *lines = prefill_kernel.table(rows).splitlines()
    assert "GFLOP/s torch.mm" in header
    assert all("x floor" in line and "x Λ" in line for line in lines)


def test_lengths_whose_tensors_need_too_much_memory_are_left_out(monkeypatch):
    monkeypatch.setattr(prefill_kernel, "_compiled_flex", lambda: flex_attention)
    needed = 3 * (SHAPE.query_heads + SHAPE.key_heads) * SHAPE.head_dim * 128 * 4
    monkeypatch.setattr(prefill_kernel, "memory_of", lambda device: 2 * needed)
    arguments = Namespace(lengths=[128, 256], device="cpu", repeats=1, budget=1.0, limit=60.0)
    panels = prefill_kernel.measure_panel(SHAPE, torch.float32, arguments, others=True, floors={})
    assert [found[0]["length"] for found in panels] == [128]


def test_nothing_that_fits_is_one_sentence(monkeypatch):
    monkeypatch.setattr(prefill_kernel, "memory_of", lambda device: 1)
    monkeypatch.setattr("sys.argv", ["prefill_kernel.py", "--lengths", "128", "--shapes", "smollm2"])
    with pytest.raises(UserError, match="^--lengths 128: "):
        prefill_kernel.main()


def test_each_backend_of_a_gpu_that_can_attend_is_measured(monkeypatch):
    monkeypatch.setattr(choice, "lacks_flash", lambda device, dtype: "half precision" if dtype.itemsize > 2 else None)
    for dtype, names in ((torch.bfloat16, ("flash", "flex", "blockwise")), (torch.float32, ("flex", "blockwise"))):
        with fake_cuda():
            tensors = [torch.empty(1, heads, 80, 64, dtype=dtype, device=GPU) for heads in (9, 3, 3)]
            found = by_backend(SHAPE, *tensors)
        assert list(found) == [f"Λ-attention, {name}" for name in names]


@pytest.mark.parametrize(
    ("dtype", "names"), [(torch.float32, ["edges", "blockwise", "onednn"]), (torch.bfloat16, ["edges", "blockwise"])]
)
def test_and_each_of_the_processor(dtype, names):
    found = by_backend(SHAPE, *SHAPE.inputs(80, "cpu", dtype))
    assert list(found) == [f"Λ-attention, {name}" for name in names]
