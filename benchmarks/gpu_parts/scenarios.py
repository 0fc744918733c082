"""Inputs on which backends are held against blockwise: the shapes in which a kernel of a GPU can go wrong."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.measuring.filled_cache import filled_cache
from models.attention.positions import AlibiPositions, RotaryPositions, alibi_slopes
from models.lambda_attention import AttentionLayer, LambdaConfig, lambda_attention
from utils.errors import UserError

SPREAD = 3.0
"""Factor on random queries: single keys then weigh much, so that one too many or too few is no small error."""
FAR = 10**9
MARGIN = 13
"""Columns of a larger storage in front of keys that are a part of it; no multiple of what a kernel loads at once."""


@dataclass(frozen=True)
class Scenario:
    """One layer's prompt, read in chunks of so many tokens each.

    start: tokens that the cache holds before. inside: whether the tensors are a part of larger ones. exact: whether it
    is measured in float32, too.
    """

    name: str
    query_heads: int
    key_heads: int
    head_dim: int
    config: LambdaConfig
    chunks: tuple[int, ...]
    rows: int = 1
    start: int = 0
    alibi: bool = False
    inside: bool = False
    exact: bool = False

    def layer(self, backend: str) -> AttentionLayer:
        """The layer of this shape, with Llama's rotary frequencies or MPT's slopes.

        Raises UserError where the backend refuses the configuration.
        """
        inv_freq = 1e4 ** -(torch.arange(0, self.head_dim, 2, dtype=torch.float64) / self.head_dim)
        positions = AlibiPositions(alibi_slopes(self.query_heads)) if self.alibi else RotaryPositions(inv_freq)
        try:
            config = replace(self.config, backend=backend)
        except ValueError as error:
            raise UserError(str(error)) from None
        return AttentionLayer(config, positions, self.head_dim**-0.5)

    def tensors(self, dtype: torch.dtype) -> list[Tensor]:
        """query, key and value `[B, H, n, d]` of the prompt, then key and value of what the cache holds; on the CPU."""
        generator = torch.Generator().manual_seed(0)
        kept = self.config.local_branch + self.config.global_branch if self.start else 0
        heads = (self.query_heads, self.key_heads, self.key_heads, self.key_heads, self.key_heads)
        counts = [sum(self.chunks)] * 3 + [kept] * 2
        found = [
            torch.randn(self.rows, count, h, self.head_dim, generator=generator).transpose(1, 2)
            for h, count in zip(heads, counts)
        ]
        found[0] *= SPREAD
        return [x.to(dtype) for x in found]

    def read(self, tensors: list[Tensor], backend: str, device: str, dtype: torch.dtype) -> Tensor:
        """The attention of the whole prompt by a backend, `[B, Hq, n, d]`."""
        query, key, value, *text = (x.to(device, dtype) for x in tensors)
        if self.inside:
            key, value = _within_larger(key), _within_larger(value)
        layer, past = self.layer(backend), None
        if self.start or len(self.chunks) > 1:
            past = filled_cache(layer.config, *text, layer, self.start)
        outputs = []
        for chunk in zip(*(x.split(self.chunks, dim=2) for x in (query, key, value))):
            layer.positions.begin_forward(self.rows, chunk[0].shape[2])
            outputs.append(lambda_attention(*chunk, layer, past))
        return torch.cat(outputs, 2)


def _within_larger(x: Tensor) -> Tensor:
    """The same numbers as a part of a storage with more columns, whose heads lie one behind the other."""
    rows, heads, count, width = x.shape
    storage = x.new_zeros(rows, heads, MARGIN + count + MARGIN, width)
    storage[:, :, MARGIN : MARGIN + count] = x
    return storage[:, :, MARGIN : MARGIN + count]


def scenarios(window: int, long_prompt: int) -> Iterator[Scenario]:
    """All of them, most valuable first. window: L. long_prompt: tokens that no backend attends at once."""
    plain = LambdaConfig(window, 10, window)
    prompt = 2 * window + window // 2 - 27  # whose last block is not whole
    smollm2 = Scenario("9/3 heads of 64", 9, 3, 64, plain, (prompt,), exact=True)
    inside = replace(plain, limit_distance=window * 5 // 8)
    yield smollm2
    yield Scenario("32 heads of 128", 32, 32, 128, replace(plain, global_branch=min(100, window // 4)), (prompt,))
    yield replace(smollm2, name="a limit inside the window", config=inside)
    yield replace(smollm2, name="a continued prompt", chunks=(prompt // 2, window // 3, 1, 37, window), exact=False)
    yield replace(smollm2, name="positions near 1e9", start=FAR - window // 2, chunks=(prompt,))
    yield replace(smollm2, name="keys of part of a larger storage", inside=True, exact=False)
    yield replace(smollm2, name="one token more than whole blocks", chunks=(2 * window + 1,), exact=False)
    yield replace(smollm2, name="two rows", rows=2, exact=False)
    yield replace(smollm2, name="no limit", config=replace(plain, limit_distance=None), exact=False)
    yield Scenario("9/3 heads of 80", 9, 3, 80, plain, (prompt,))
    yield Scenario("9/3 heads of 96", 9, 3, 96, plain, (prompt,))
    yield Scenario("ALiBi", 8, 8, 64, plain, (prompt,), alibi=True, exact=True)
    yield Scenario("ALiBi, a limit inside the window", 8, 8, 64, inside, (prompt,), alibi=True)
    yield Scenario("heads 8 wide", 4, 2, 8, plain, (prompt,), exact=True)
    yield replace(smollm2, name="several segments", chunks=(long_prompt,), exact=False)
