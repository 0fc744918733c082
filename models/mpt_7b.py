"""MPT: one fused projection, positions as linear biases (ALiBi), a bias table of fixed length."""

from torch import Tensor, nn
from transformers import PreTrainedModel

from .attention.positions import AlibiPositions, alibi_slopes
from .attention.settings import SAME_AS_LOCAL
from .conversion import drop_in
from .converting.family import Family, Projections
from .loading.vanilla import before_forward


def convert_mpt_model(
    model: PreTrainedModel, local_branch: int, global_branch: int, limit_distance=SAME_AS_LOCAL, **options
) -> PreTrainedModel:
    """Give an MPT model Λ-attention in place, and return it. Arguments as in `convert_llama_model`."""
    return drop_in(model, FAMILIES, local_branch, global_branch, limit_distance, **options)


def _project(module: nn.Module, hidden_states: Tensor) -> Projections:
    fused = module.Wqkv(hidden_states)
    if module.clip_qkv:
        fused = fused.clamp(-module.clip_qkv, module.clip_qkv)
    return tuple(x.unflatten(-1, (-1, module.head_dim)).transpose(1, 2) for x in fused.chunk(3, dim=-1))


def _positions(base: nn.Module, layer: int, limit_distance: int | None) -> AlibiPositions:
    return AlibiPositions(alibi_slopes(base.config.n_heads))


def _extend_vanilla(base: nn.Module) -> None:
    """Build the bias table as long as the forward needs; biases count back from the last key, so the rest stays."""
    build, needed = base.build_mpt_alibi_tensor, 0

    def lengthen(base: nn.Module, length: int) -> None:
        nonlocal needed
        needed = length

    def build_longer(num_heads: int, sequence_length: int, *args, **kwargs) -> Tensor:
        return build(num_heads, max(sequence_length, needed), *args, **kwargs)

    base.build_mpt_alibi_tensor = build_longer
    before_forward(base, lengthen)


FAMILIES = {
    "mpt": Family(
        attention_modules=lambda base: [block.attn for block in base.blocks],
        parts=frozenset({"Wqkv", "out_proj"}),
        project=_project,
        output="out_proj",
        scale=lambda module: module.softmax_scale,
        positions=_positions,
        extend_vanilla=_extend_vanilla,
    )
}
