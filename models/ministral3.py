"""Ministral 3: Llama's attention with queries that grow with their position in the text, as Llama 4 has them."""

from torch import Tensor, nn

from .attention.temperature import warmed
from .llama import family


def _place(module: nn.Module, query: Tensor, positions: Tensor) -> Tensor:
    rope = module.config.rope_parameters
    return warmed(query, positions, rope["llama_4_scaling_beta"], rope["original_max_position_embeddings"])


FAMILIES = {"ministral3": family(place=_place)}
