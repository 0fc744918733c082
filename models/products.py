"""Products of the tensors that attention is made of."""

import torch
from torch import Tensor


def multiply(left: Tensor, right: Tensor, product: Tensor) -> None:
    """Write the matrix products of left `[H, m, k]` and right `[H, k, n]` into product, head by head.

    A half-precision `bmm` copies operands whose heads do not lie one behind the other, `mm` does not.
    """
    if len(left) == 1:
        torch.mm(left[0], right[0], out=product[0])
    else:
        torch.bmm(left, right, out=product)
