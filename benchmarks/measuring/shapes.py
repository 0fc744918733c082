"""The attention shapes that kernels are measured on, and random tensors of them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.attention.positions import RotaryPositions
from models.lambda_attention import AttentionLayer, LambdaConfig


@dataclass(frozen=True)
class Shape:
    """Heads and branches of one attention layer; its distance limit is its window."""

    label: str
    query_heads: int
    key_heads: int
    head_dim: int
    local_branch: int
    global_branch: int

    @property
    def config(self) -> LambdaConfig:
        return LambdaConfig(self.local_branch, self.global_branch, self.local_branch)

    def layer(self, config: LambdaConfig | None = None) -> AttentionLayer:
        """An attention layer of this shape, with Llama's rotary frequencies."""
        inv_freq = 1e4 ** -(torch.arange(0, self.head_dim, 2, dtype=torch.float64) / self.head_dim)
        return AttentionLayer(config or self.config, RotaryPositions(inv_freq), self.head_dim**-0.5)

    def inputs(self, length: int, device: str, dtype: torch.dtype) -> list[Tensor]:
        """query, key, value `[1, H, n, d]` as a model's projections lie in memory."""
        heads = [self.query_heads, self.key_heads, self.key_heads]
        fused = torch.randn(1, length, sum(heads), self.head_dim, device=device, dtype=dtype)
        return list(fused.transpose(1, 2).split(heads, dim=1))

    def attended_pairs(self, length: int) -> int:
        """Pairs of one query head's queries and the keys that they attend to: the work that cannot be left out.

        Query i has `min(i + 1, L)` keys in its window and `min(G, max(0, i + 1 - L))` first ones beyond it.
        """
        within = min(length, self.local_branch)
        beyond = length - within
        ramp = min(beyond, self.global_branch)
        window = within * (within + 1) // 2 + beyond * self.local_branch
        return window + ramp * (ramp + 1) // 2 + (beyond - ramp) * self.global_branch

    def flops(self, length: int) -> int:
        """Operations of the two products over exactly the attended pairs, all heads."""
        return 4 * self.head_dim * self.query_heads * self.attended_pairs(length)


SMOLLM2 = Shape("SmolLM2-135M", 9, 3, 64, local_branch=2048, global_branch=10)
LLAMA2_7B = Shape("Llama-2-7B", 32, 32, 128, local_branch=4096, global_branch=100)
SHAPES = {"smollm2": SMOLLM2, "llama2_7b": LLAMA2_7B}
