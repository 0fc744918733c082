"""Scoring one chunk of every stream of a rank at once."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from utils.errors import UserError
from utils.progress import Progress, layer_progress
from utils.ranks.runtime import is_out_of_memory


def score(scorer: nn.Module, tokens: np.ndarray, position: int, device: torch.device, progress: Progress) -> np.ndarray:
    """NLL, float32 `[streams, n]`, of tokens `[streams, n]` that begin at `position`; one token fewer at the beginning.

    scorer: a StreamScorer that may be wrapped by DeepSpeed. Raises UserError when memory runs out.
    """
    input_ids = torch.from_numpy(tokens).to(device)
    try:
        with torch.no_grad(), layer_progress(scorer, progress.within_step):
            return scorer(input_ids).cpu().numpy()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"memory ran out over a chunk of {tokens.shape[1]} tokens of {tokens.shape[0]} streams at token "
            f"{position}: start afresh with a smaller --max_length or --streams"
        ) from None


def refuse_broken(nll: np.ndarray, first: int, streams: Sequence[int]) -> None:
    """Raise UserError where an NLL is no number. first: the position of column 0; streams: the numbers of the rows."""
    broken = np.argwhere(~np.isfinite(nll))
    if len(broken):
        row, place = broken[0]
        raise UserError(
            f"the NLL of stream {streams[row]} is {nll[row, place]} at position {first + place}: the "
            "model's logits are no numbers there; try --dtype float32"
        )
