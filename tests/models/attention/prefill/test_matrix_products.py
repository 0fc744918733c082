"""Products by whichever library is the fastest are the same products."""

import pytest
import torch

from models.attention.prefill import matrix_products as products
from models.attention.prefill.matrix_products import add_product, multiply, multiply_exactly
from tests.fake_cuda import GPU, fake_cuda

onednn = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this torch has no product by oneDNN"
)


@pytest.mark.parametrize("of_keys", [True, False], ids=["keys", "values"])
@pytest.mark.parametrize(
    ("dtype", "by_onednn"),
    [
        (torch.float64, False),
        (torch.float32, False),
        pytest.param(torch.float32, True, marks=onednn),
        (torch.bfloat16, False),
    ],
)
def test_products_of_each_head(monkeypatch, dtype, by_onednn, of_keys):
    """Cut from larger tensors, as attention has them: rows of one head do not follow those of the head before."""
    monkeypatch.setattr(products, "LARGE_PRODUCT", 1)
    generator = torch.Generator().manual_seed(0)
    left, keys, values = (torch.randn(3, 50, 41, generator=generator).to(dtype) for _ in range(3))
    left, right = (left[:, :35], keys[:, 7:48].transpose(1, 2) if of_keys else values[:, 7:48])
    expected = left.double() @ right.double()
    memory = torch.full((3, 35, 60), 7.0, dtype=dtype)
    product = memory[..., :41]
    multiply(left, right, product, by_onednn)
    bound = 4 * torch.finfo(dtype).eps * expected.abs().max()
    assert (product.double() - expected).abs().max() <= bound
    assert (memory[..., 41:] == 7).all()

    add_product(left, right, product, by_onednn)
    assert (product.double() - 2 * expected).abs().max() <= 2 * bound


@pytest.mark.parametrize(("queries", "taken"), [(384, True), (4, False)])
def test_oneDNN_is_asked_for_large_products_where_it_is_to_be(monkeypatch, queries, taken):
    asked = []
    monkeypatch.setattr(products, "_onednn_product", lambda *operands: asked.append(operands) or torch.zeros(()))
    rows, columns = torch.ones(1, queries, 64), torch.ones(1, 64, 512)
    for by_onednn in (True, False):
        multiply(rows, columns, torch.empty(1, queries, 512), by_onednn)
        add_product(rows, columns, torch.zeros(1, queries, 512), by_onednn)
    assert len(asked) == (2 if taken else 0)


@onednn
def test_what_oneDNN_has_kernels_for():
    cpu = torch.device("cpu")
    assert products.lacks_onednn(torch.float32, cpu) is None
    assert products.lacks_onednn(torch.float64, cpu) and products.lacks_onednn(torch.bfloat16, cpu)
    assert products.lacks_onednn(torch.float32, torch.device("cuda")) == "the CPU"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_exact_products_are_those_of_wider_operands(dtype):
    left, right = torch.randn(2, 3, 5, 64).to(dtype), torch.randn(2, 3, 7, 64).to(dtype).mT
    product = multiply_exactly(left, right)
    assert product.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(product.double(), left.double() @ right.double(), rtol=0, atol=2e-5)


def test_on_a_gpu_exact_products_of_half_precision_are_one_launch_and_no_copy():
    with fake_cuda() as launched:
        left, right = (torch.empty(2, 3, rows, 64, dtype=torch.bfloat16, device=GPU) for rows in (5, 7))
        product = multiply_exactly(left, right.mT)
        assert product.dtype == torch.float32 and product.shape == (2, 3, 5, 7)
    assert launched == ["bmm"]
