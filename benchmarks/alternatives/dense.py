"""Dense causal attention, by torch's own kernels."""

import torch.nn.functional as F
from torch import Tensor

from models.lambda_attention import AttentionLayer


def dense_attention(query: Tensor, key: Tensor, value: Tensor, layer: AttentionLayer) -> Tensor:
    """Causal attention of torch; positions are left out."""
    grouped = query.shape[1] > key.shape[1]
    return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=layer.scale, enable_gqa=grouped)
