"""Where tokens stand in their text: counted from a row's first real token, however the text is read."""

import torch
from torch import Tensor

from .decode.counted import CountedLayer
from .ragged import RealTokens
from .sequence.group import Stretch


def text_positions(query: Tensor, past: CountedLayer | None, real: RealTokens, stretch: Stretch | None) -> Tensor:
    """int64 `[B or 1, n]`, of the new tokens of a query `[B, Hq, n, d]`, before `past` has counted them.

    One row where all are alike. That of padding has no meaning.
    """
    rows, columns, device = query.shape[0], query.shape[-2], query.device
    if stretch is not None:
        return _from(stretch.all.start(stretch.rank), columns, device)
    if past is not None and past.step is not None:  # a position that only the device knows
        return past.step.position[:, None]
    if real.columns is None and (past is None or past.aligned):
        return _from(0 if past is None else past.position, columns, device)
    starts = past.seen if past is not None and past.seen else [0] * rows
    positions = torch.zeros(rows, columns, dtype=torch.int64)
    for row, start in enumerate(starts):
        at = slice(None) if real.columns is None else real.columns[row]
        positions[row, at] = start + torch.arange(len(positions[row, at]))
    return positions.to(device)


def _from(start: int, count: int, device: torch.device) -> Tensor:
    return torch.arange(start, start + count, device=device)[None]
