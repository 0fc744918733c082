"""Λ-shaped attention (LM-Infinite, arXiv 2308.16137), and the methods that attend to all tokens: the one entry point.

Which keys a query attends to (local_branch L = 4, global_branch G = 2), and how far away it feels them
(limit_distance D = 4):

              key 0 1 2 3 4 5 6 7 8 9          #  window: i - j < L
    query 0       #                            +  global: j < G beyond the window, felt at distance min(i - j, D)
                                                  (or where it lies in the cache, see sink_positions)
          3       # # # #                      .  middle: not attended (unless triangle_offset or top-k)
          5       + + # # # #
          9       + + . . . . # # # #

Dimension legend, used throughout `models/`:
    B batch rows   Hq query heads   Hkv key/value heads   g = Hq / Hkv   n new tokens   d head_dim
    L local_branch   G global_branch   D limit_distance   W window columns of a block
"""

from torch import Tensor

from .attention.bands.attend import attend_bands, attend_chunks
from .attention.bands.config import BandsConfig, ChunksConfig
from .attention.config import AttentionLayer, LambdaConfig, TopK
from .attention.decode.cache import LambdaLayer
from .attention.decode.counted import CountedLayer
from .attention.decode.one_token import attend_newest, attend_one
from .attention.prefill.rolling_window import attend_prefill

__all__ = ["AttentionLayer", "BandsConfig", "LambdaConfig", "TopK", "lambda_attention"]


def lambda_attention(
    query: Tensor, key: Tensor, value: Tensor, layer: AttentionLayer, past: CountedLayer | None = None
) -> Tensor:
    """Attend n new tokens to themselves and to `past`, and add them to `past`.

    query `[B, Hq, n, d]`, key `[B, Hkv, n, d]`, value `[B, Hkv, n, d_v]`: one floating dtype, before any position
    encoding. past: of `decode.cache.new_layer`. Every row continues at its own position in `past` (0 without one) and
    holds no padding; rows of different lengths go through `models.attention.ragged`. Returns `[B, Hq, n, d_v]` in the
    dtype of the query. Time O(n (L + G)), or O(n²) where the method attends to all tokens; working memory flat in n.
    """
    if isinstance(layer.config, ChunksConfig):
        return attend_chunks(query, key, value, layer, past)
    if layer.config.attends_all:
        return attend_bands(query, key, value, layer, past)
    uses_top_k = layer.config.selects_top_k(layer.layer_idx)
    if past is None and uses_top_k:
        past = LambdaLayer(layer.config, layer.layer_idx)
    if past is not None and query.shape[-2] == 1:
        return attend_one(query, key, value, layer, past)
    output = attend_prefill(query, key, value, layer, past)
    if uses_top_k:
        output[:, :, -1:] = attend_newest(query[:, :, -1:], key[:, :, -1:], layer, past)
    return output
