"""BLOOM: one fused projection, ALiBi, and the residual added by the attention module."""

from torch import Tensor, nn

from .attention.forwards import make_nothing
from .attention.positions import AlibiPositions, alibi_slopes
from .converting.family import Family
from .gpt_neox import project


def _positions(base: nn.Module, layer: int, limit_distance: int | None) -> AlibiPositions:
    return AlibiPositions(alibi_slopes(base.num_heads))


def _add_residual(module: nn.Module, output: Tensor, residual: Tensor) -> tuple[Tensor, None]:
    return output + residual, None


FAMILIES = {
    "bloom": Family(
        attention_modules=lambda base: [block.self_attention for block in base.h],
        parts=frozenset({"query_key_value", "dense"}),
        project=project,
        output="dense",
        scale=lambda module: module.inv_norm_factor,
        positions=_positions,
        given=("residual",),
        returns=_add_residual,
        instead={"build_alibi_tensor": make_nothing},  # it wants a mask of two dimensions
    )
}
