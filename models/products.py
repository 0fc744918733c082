"""Products of the tensors that attention is made of.

On the CPU head by head: a half-precision `bmm` copies operands whose heads do not lie one behind the other, `mm` does
not, and its threads share each product evenly.
"""

import torch
from torch import Tensor


def multiply(left: Tensor, right: Tensor, product: Tensor) -> None:
    """Write the matrix products of left `[H, m, k]` and right `[H, k, n]` into product `[H, m, n]`."""
    if product.is_cuda:
        torch.bmm(left, right, out=product)
        return
    for rows, columns, out in zip(left.unbind(), right.unbind(), product.unbind()):
        torch.mm(rows, columns, out=out)


def add_product(left: Tensor, right: Tensor, total: Tensor) -> None:
    """Add the matrix products of left `[H, m, k]` and right `[H, k, n]` to total `[H, m, n]`."""
    if total.is_cuda:
        total.baddbmm_(left, right)
        return
    for rows, columns, sums in zip(left.unbind(), right.unbind(), total.unbind()):
        sums.addmm_(rows, columns)
