"""What the parts measure: the sizes for a GPU, and tiny ones with which all of it runs on a CPU in seconds."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks.measuring.accelerator import Accelerator
from benchmarks.measuring.shapes import LLAMA2_7B, SMOLLM2, Shape

SMOLLM2_MODEL = {
    "vocab_size": 49_152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e5},
}
LLAMA2_7B_MODEL: dict[str, Any] = {}
"""The defaults of Transformers' LlamaConfig are Llama-2-7B."""
TINY_MODEL = {
    **SMOLLM2_MODEL,
    "vocab_size": 128,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
}


@dataclass(frozen=True)
class Sizes:
    """window: L of the correctness cases, whose prompts are a few windows. long_prompt: one of several segments.
    scenarios: how many of them, the first; None for all.

    shapes: attention layers, with their L. *_lengths, decode_positions, chunks, prompt, large_chunk: in tokens.
    decoded: tokens after the prompt. *_model: of LlamaConfig. budget: seconds that repetitions of a case may take.
    product: rows of the square matrices whose product is the measure of the device.
    """

    window: int
    long_prompt: int
    scenarios: int | None
    shapes: tuple[Shape, ...]
    layer_lengths: tuple[int, ...]
    growth_lengths: tuple[int, ...]
    decode_positions: tuple[int, ...]
    stream_model: dict[str, Any]
    chunks: tuple[int, ...]
    large_model: dict[str, Any]
    prompt: int
    decoded: int
    large_chunk: int
    local_branch: int
    global_branch: int
    budget: float
    product: int


FULL = Sizes(
    window=1024,
    long_prompt=70_000,
    scenarios=None,
    shapes=(replace(SMOLLM2, local_branch=4096), LLAMA2_7B),
    layer_lengths=(32_768, 131_072, 1_048_576),
    growth_lengths=(131_072, 262_144, 524_288, 1_048_576),
    decode_positions=(8192, 1_048_576, 200_000_000),
    stream_model=SMOLLM2_MODEL,
    chunks=(49_152, 16_384, 131_072),
    large_model=LLAMA2_7B_MODEL,
    prompt=32_768,
    decoded=64,
    large_chunk=32_768,
    local_branch=4096,
    global_branch=10,
    budget=1.0,
    product=8192,
)
TINY = Sizes(
    window=32,
    long_prompt=1100,
    scenarios=3,
    shapes=(replace(SMOLLM2, query_heads=3, key_heads=1, head_dim=16, local_branch=32),),
    layer_lengths=(64, 128),
    growth_lengths=(1024, 2048),
    decode_positions=(100, 10_000),
    stream_model=TINY_MODEL,
    chunks=(64, 128),
    large_model={**TINY_MODEL, "num_key_value_heads": 3},
    prompt=200,
    decoded=4,
    large_chunk=64,
    local_branch=32,
    global_branch=4,
    budget=0.05,
    product=64,
)


@dataclass(frozen=True)
class Plan:
    """A run: on which device, in which sizes."""

    device: str
    sizes: Sizes
    dtype = torch.bfloat16

    @property
    def accelerator(self) -> Accelerator:
        return Accelerator(self.device)
