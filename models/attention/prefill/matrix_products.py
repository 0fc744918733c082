"""Products of the tensors that attention is made of.

On the CPU head by head: a half-precision `bmm` copies operands whose heads do not lie one behind the other, `mm` does
not.
"""

import torch
from torch import Tensor

LARGE_PRODUCT = 2**22
"""Multiplications: below, what surrounds a product takes as long as it does."""


def multiply(left: Tensor, right: Tensor, product: Tensor, by_onednn: bool = False) -> None:
    """Write the matrix products of left `[H, m, k]` and right `[H, k, n]` into product `[H, m, n]`."""
    if product.is_cuda:
        torch.bmm(left, right, out=product)
        return
    for rows, columns, out in zip(left.unbind(), right.unbind(), product.unbind()):
        if by_onednn and _is_large(rows, columns):
            out.copy_(_onednn_product(rows, columns))
        else:
            torch.mm(rows, columns, out=out)


def add_product(left: Tensor, right: Tensor, total: Tensor, by_onednn: bool = False) -> None:
    """Add the matrix products of left `[H, m, k]` and right `[H, k, n]` to total `[H, m, n]`."""
    if total.is_cuda:
        total.baddbmm_(left, right)
        return
    for rows, columns, sums in zip(left.unbind(), right.unbind(), total.unbind()):
        if by_onednn and _is_large(rows, columns):
            sums.add_(_onednn_product(rows, columns))
        else:
            sums.addmm_(rows, columns)


def multiply_exactly(left: Tensor, right: Tensor) -> Tensor:
    """The matrix products of left `[B, H, m, k]` and right `[B, H, k, n]`, not rounded to their dtype if it is half."""
    if left.element_size() > 2:
        return left @ right
    if not left.is_cuda:  # there is no such operator
        return left.float() @ right.float()
    products = torch.bmm(left.flatten(0, 1), right.flatten(0, 1), out_dtype=torch.float32)
    return products.unflatten(0, left.shape[:2])


def _is_large(rows: Tensor, columns: Tensor) -> bool:
    return rows.numel() * columns.shape[-1] >= LARGE_PRODUCT


def _onednn_product(rows: Tensor, columns: Tensor) -> Tensor:
    """Multiply by torch.compile's operator, for there is no public one."""
    return torch.ops.mkldnn._linear_pointwise(rows, columns.t(), None, "none", [], "")


def lacks_onednn(dtype: torch.dtype, device: torch.device) -> str | None:
    """What products of scores of this dtype lack, as "onednn needs ..." goes on; None where they lack nothing.

    oneDNN, with which `mm` multiplies bfloat16, has kernels of its own for float32 too, which on some processors are
    faster than those of MKL behind `mm`, and on others slower.
    """
    if device.type != "cpu":
        return "the CPU"
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return f"a torch that has oneDNN's products, which {torch.__version__} has not"
    return None if dtype == torch.float32 else "scores in float32: others are multiplied by it anyway, or not at all"
