"""Batches with padding: every row gives exactly what it gives alone, wherever its padding stands."""

from dataclasses import dataclass

from torch import Tensor

from ..lambda_attention import lambda_attention
from .config import AttentionLayer
from .decode.counted import CountedLayer


@dataclass(frozen=True)
class RealTokens:
    """The new columns that hold real tokens: None for all, else one index (slice or int64 tensor) per row."""

    columns: tuple[slice | Tensor, ...] | None = None

    @classmethod
    def from_mask(cls, mask: Tensor | None) -> "RealTokens":
        """mask: `[B, n]`, nonzero where real, on any device; None for no padding."""
        mask = None if mask is None else mask.bool().cpu()
        if mask is None or bool(mask.all()):
            return cls()
        return cls(tuple(_columns(row) for row in mask))


def _columns(row: Tensor) -> slice | Tensor:
    indices = row.nonzero().squeeze(-1)
    if indices.numel() == 0:
        return slice(0, 0)
    first, last = int(indices[0]), int(indices[-1])
    return slice(first, last + 1) if last + 1 - first == indices.numel() else indices


def attend_batch(
    query: Tensor, key: Tensor, value: Tensor, layer: AttentionLayer, past: CountedLayer | None, real: RealTokens
) -> Tensor:
    """`lambda_attention` for rows with padding or at different positions. The output at padding is zero."""
    one_each = query.shape[-2] == 1 and not layer.config.attends_all
    if real.columns is None and (past is None or one_each or past.aligned):
        return lambda_attention(query, key, value, layer, past)
    rows, columns = query.shape[0], query.shape[-2]
    output = query.new_zeros(*query.shape[:-1], value.shape[-1])
    if past is not None:
        past.reserve(key, value)
    for row in range(rows):
        part, at = slice(row, row + 1), slice(None) if real.columns is None else real.columns[row]
        if key[part, :, at].shape[-2] == 0:
            continue
        own = None if past is None else past.row(row)
        output[part, :, at] = lambda_attention(query[part, :, at], key[part, :, at], value[part, :, at], layer, own)
        if past is not None:
            past.seen[row] = own.seen[0]
    if past is not None:
        past.columns += columns
    return output
