"""Random inputs of one attention layer, and the dense reference's answer to them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.attention.positions import AlibiPositions, NoPositions, RotaryPositions, alibi_slopes
from models.lambda_attention import AttentionLayer, LambdaConfig, lambda_attention
from tests.dense_reference import dense_lambda_attention, half_split_rotary

HEAD_DIM = 8


@dataclass(frozen=True)
class Case:
    """Inputs `[B, H, n, d]` in `dtype` and the layer that attends to them."""

    query: Tensor
    key: Tensor
    value: Tensor
    layer: AttentionLayer

    def attend(self, columns: slice = slice(None), past=None) -> Tensor:
        query, key, value = (x[:, :, columns] for x in (self.query, self.key, self.value))
        return lambda_attention(query, key, value, self.layer, past)

    def expected(self) -> Tensor:
        """float64 `[B, Hq, n, d]`."""
        positions, rotary = self.layer.positions, None
        if isinstance(positions, RotaryPositions):
            rotary = half_split_rotary(positions.inv_freq, positions.interleaved)
        rows = zip(self.query, self.key, self.value)
        softmax = (self.layer.soft_cap, self.layer.sink_logit)
        arguments = (self.layer.config, rotary, positions.slopes, self.layer.scale, *softmax)
        return torch.stack([dense_lambda_attention(*row, *arguments) for row in rows])


def make_case(
    config: LambdaConfig,
    length: int,
    encoding: str = "rotary",
    batch: int = 1,
    key_heads: int = 1,
    group: int = 1,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    soft_cap: float | None = None,
    learned_sink: bool = False,
    width: int = HEAD_DIM,
) -> Case:
    """encoding: "rotary", "interleaved", "alibi" or "none"; two features are not turned. group: query heads per key
    head. width: features of a head.
    """
    generator = torch.Generator().manual_seed(seed)
    heads = {"query": key_heads * group, "key": key_heads, "value": key_heads}
    tensors = [torch.randn(batch, count, length, width, generator=generator).to(dtype) for count in heads.values()]
    turned = width - 2
    inv_freq = 100.0 ** -(torch.arange(0, turned, 2, dtype=torch.float64) / turned)
    positions = RotaryPositions(inv_freq, interleaved=encoding == "interleaved")
    if encoding == "alibi":
        positions = AlibiPositions(alibi_slopes(key_heads * group))
    elif encoding == "none":
        positions = NoPositions()
    sink_logit = 2 * torch.randn(key_heads * group, generator=generator) if learned_sink else None
    return Case(*tensors, AttentionLayer(config, positions, width**-0.5, 0, soft_cap, sink_logit))
