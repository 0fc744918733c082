"""The layer cases compute what their names say, and their rates are of the pairs that are attended."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from benchmarks.gpu_parts import layer
from benchmarks.gpu_parts.layer import attend, dense, flex_kernel, flops, join, measure, methods, rotation
from benchmarks.gpu_parts.sizes import TINY, Plan
from benchmarks.measuring.shapes import SMOLLM2
from models.attention.prefill.first_tokens import merge_into
from models.attention.settings import ON_GPU
from models.lambda_attention import LambdaConfig, lambda_attention
from utils.errors import UserError

SHAPE = replace(SMOLLM2, local_branch=32, global_branch=4)
PLAN = Plan("cpu", TINY)
CLOSE = {"rtol": 0, "atol": 2e-6}


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    return SHAPE.inputs(150, "cpu", torch.float32)


def masked(tensors, attended):
    return F.scaled_dot_product_attention(*tensors, attn_mask=attended, scale=SHAPE.head_dim**-0.5, enable_gqa=True)


def distance():
    return torch.arange(150)[:, None] - torch.arange(150)


def test_the_bare_window_and_that_without_positions_are_the_window(tensors):
    expected = masked(tensors, (distance() >= 0) & (distance() < 32))
    torch.testing.assert_close(flex_kernel(SHAPE, tensors)()[0], expected, **CLOSE)
    for backend in ON_GPU[1:]:
        if backend != "flash":  # which a CPU has not
            found = attend(SHAPE, tensors, backend, first=False, rotated=False)()
            torch.testing.assert_close(found, expected, **CLOSE)


def test_dense_is_dense_and_a_backend_is_the_whole_method(tensors):
    torch.testing.assert_close(dense(SHAPE, tensors)(), masked(tensors, distance() >= 0), **CLOSE)
    whole = lambda_attention(*tensors, SHAPE.layer(LambdaConfig(32, 4, 32, backend="blockwise")))
    torch.testing.assert_close(attend(SHAPE, tensors, "blockwise")(), whole, **CLOSE)
    joined = join(SHAPE, tensors)
    joined()
    assert joined.args[0] is merge_into
    torch.testing.assert_close(
        joined.args[2], tensors[0], **CLOSE
    )  # two that are the same are that, however they weigh
    query, key = rotation(SHAPE, tensors)()
    assert (query.shape, key.shape) == (tensors[0].shape, tensors[1].shape) and not torch.equal(query, tensors[0])


def test_the_flash_kernel_of_torch_needs_a_gpu(tensors):
    with pytest.raises(UserError, match="on CUDA only"):
        layer.flash_kernel(SHAPE, tensors)


def test_the_flash_kernel_is_called_by_its_schema(tensors):
    """Arguments that the operator of this torch does not have would be an error on the GPU."""

    class OnGpu(torch.Tensor):
        is_cuda = True

    run = layer.flash_kernel(SHAPE, [x.as_subclass(OnGpu) for x in tensors])
    names = [x.name for x in run.func.default._schema.arguments]
    given = dict(zip(names, run.args)) | run.keywords
    assert set(given) <= set(names) and not given["is_causal"]
    assert (given["window_size_left"], given["window_size_right"]) == (31, 0)
    assert given["query"].shape == (1, 150, 9, 64) and (given["max_q"], given["max_k"]) == (150, 150)


def test_rates_are_those_of_attended_pairs(monkeypatch):
    pairs = {method.name: method.pairs for method in methods(SHAPE, 150)}
    attended = (distance() >= 0) & ((distance() < 32) | (torch.arange(150) < 4))
    within = (distance() >= 0) & (distance() < 32)
    assert pairs["dense"] == int((distance() >= 0).sum())
    assert pairs["flex"] == int(attended.sum()) and pairs["flex, window"] == pairs["kernel flex"] == int(within.sum())
    monkeypatch.setattr(layer, "_rate_of_products", lambda *sizes: 1e9)
    method = next(method for method in methods(SHAPE, 150) if method.name == "blockwise")
    found = measure(PLAN, SHAPE, 150, method)
    rate = 4 * 64 * 9 * pairs["flex"] / found["median"]
    assert flops(SHAPE, 10) == 4 * 64 * 9 * 10
    assert found["tflops_per_second"] == pytest.approx(rate / 1e12) and found["of_products"] == pytest.approx(
        rate / 1e9
    )
    assert found["profile"]["kernels"] and found["working_memory_mib"] >= 0


def test_what_takes_longest_comes_last_and_says_so(monkeypatch):
    monkeypatch.setattr(layer, "_rate_of_products", lambda *sizes: 1e5)
    cases = list(layer.cases(PLAN))
    slow = [case.seconds > layer.SECONDS_TO_COMPILE for case in cases]
    assert slow == sorted(slow) and any(slow)
    dense_case = next(case for case in cases if case.name.endswith("128 tokens, dense"))
    shape = TINY.shapes[0]
    expected = layer.SECONDS + 2 * flops(shape, 128 * 129 // 2) / (layer.SLOWEST * 1e5)
    assert dense_case.seconds == pytest.approx(expected)
