"""Products by whichever library is the fastest are the same products."""

import pytest
import torch

from models import products
from models.products import add_product, multiply

onednn = pytest.param(
    True,
    marks=pytest.mark.skipif(
        not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this torch has no product by oneDNN"
    ),
)


@pytest.fixture(params=[False, onednn], ids=["mm", "onednn"])
def library(request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "mkl_is_slow", lambda: request.param)
    monkeypatch.setattr(products, "LARGE_PRODUCT", 1)


def operands(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut from larger tensors, as attention has them: rows of one head do not follow those of the head before."""
    generator = torch.Generator().manual_seed(0)
    left, keys = (torch.randn(3, 50, 24, generator=generator).to(dtype) for _ in range(2))
    return left[:, :35], keys[:, 7:48].transpose(1, 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_products_of_each_head(library, dtype):
    left, right = operands(dtype)
    expected = left.double() @ right.double()
    memory = torch.full((3, 35, 60), 7.0, dtype=dtype)
    product = memory[..., :41]
    multiply(left, right, product)
    bound = 4 * torch.finfo(dtype).eps * expected.abs().max()
    assert (product.double() - expected).abs().max() <= bound
    assert (memory[..., 41:] == 7).all()

    add_product(left, right, product)
    assert (product.double() - 2 * expected).abs().max() <= 2 * bound


@pytest.mark.parametrize(
    ("dtype", "queries", "taken"),
    [(torch.float32, 384, True), (torch.float32, 4, False), (torch.float64, 384, False), (torch.bfloat16, 384, False)],
)
def test_what_oneDNN_is_asked_for(monkeypatch, dtype, queries, taken):
    monkeypatch.setattr(products, "mkl_is_slow", lambda: True)
    asked = []
    monkeypatch.setattr(products, "_onednn_product", lambda *operands: asked.append(operands) or torch.zeros(()))
    rows, columns = torch.ones(1, queries, 64, dtype=dtype), torch.ones(1, 64, 512, dtype=dtype)
    multiply(rows, columns, torch.empty(1, queries, 512, dtype=dtype))
    add_product(rows, columns, torch.zeros(1, queries, 512, dtype=dtype))
    assert len(asked) == (2 if taken else 0)


def test_whether_MKL_is_slow_is_found_out_without_an_error():
    assert products.mkl_is_slow() in (True, False)
