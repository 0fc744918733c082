"""Products of the tensors that attention is made of.

On the CPU head by head: a half-precision `bmm` copies operands whose heads do not lie one behind the other, `mm` does
not, and its threads share each product evenly.
"""

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

PROCESSORS = Path("/proc/cpuinfo")
LARGE_PRODUCT = 2**22
"""Multiplications: below, what surrounds a product takes as long as it does."""


def multiply(left: Tensor, right: Tensor, product: Tensor) -> None:
    """Write the matrix products of left `[H, m, k]` and right `[H, k, n]` into product `[H, m, n]`."""
    if product.is_cuda:
        torch.bmm(left, right, out=product)
        return
    for rows, columns, out in zip(left.unbind(), right.unbind(), product.unbind()):
        if _takes_onednn(rows, columns):
            out.copy_(_onednn_product(rows, columns))
        else:
            torch.mm(rows, columns, out=out)


def add_product(left: Tensor, right: Tensor, total: Tensor) -> None:
    """Add the matrix products of left `[H, m, k]` and right `[H, k, n]` to total `[H, m, n]`."""
    if total.is_cuda:
        total.baddbmm_(left, right)
        return
    for rows, columns, sums in zip(left.unbind(), right.unbind(), total.unbind()):
        if _takes_onednn(rows, columns):
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


def _takes_onednn(rows: Tensor, columns: Tensor) -> bool:
    large = rows.numel() * columns.shape[-1] >= LARGE_PRODUCT
    return large and rows.dtype == torch.float32 and rows.device.type == "cpu" and mkl_is_slow()


def _onednn_product(rows: Tensor, columns: Tensor) -> Tensor:
    """Multiply by torch.compile's operator, for there is no public one."""
    return torch.ops.mkldnn._linear_pointwise(rows, columns.t(), None, "none", [], "")


@lru_cache(maxsize=1)
def mkl_is_slow() -> bool:
    """Whether float32 products of oneDNN, with which torch multiplies bfloat16, are to be faster than those of `mm`.

    MKL, behind `mm`, keeps its AVX-512 kernels for Intel's processors; oneDNN has some for AMD's too.
    """
    has_operator = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    behind_mm = torch.backends.mkl.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"
    return has_operator and behind_mm and PROCESSORS.is_file() and "AuthenticAMD" in PROCESSORS.read_text()
