"""Reading texts for their NLL: each in one forward, longer ones chunk by chunk through the cache."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from data.tokenization import pad_right
from models.scoring.sequence_scorer import stream_scorer
from scripts.harness.model import RunnableModel
from scripts.harness.prefill import Prefill
from utils.errors import UserError
from utils.progress import Progress, layer_progress
from utils.ranks.runtime import Runtime, is_out_of_memory
from utils.text_tables import counted

NO_TEXT = torch.zeros(1, 2, dtype=torch.int64)


class ChunkReader:
    """Reads batches of texts with a model, which it places.

    A chunk's ids alone are on the device, and its NLL only until it is scored. Where ranks hold shards of the weights,
    all of them do as many forwards as the one with the longest text.
    """

    def __init__(self, model: RunnableModel, prefill: Prefill, runtime: Runtime) -> None:
        self.prefill, self.runtime = prefill, runtime
        self.stream = stream_scorer(model.model, model.compiled)
        self.scorer = model.place(self.stream)
        self.synced = prefill.chunk is not None and runtime.world_size > 1 and model.is_sharded

    def read(self, texts: Sequence[Sequence[int]], progress: Progress) -> list[np.ndarray]:
        """The NLL of the tokens 1 to n - 1 of each text, float32 [n - 1]. Raises UserError when memory runs out."""
        input_ids = pad_right(texts)
        forwards = len(self.prefill.parts(input_ids.shape[1]))
        most = self.runtime.broadcast(max([forwards, *self.runtime.gather(forwards)])) if self.synced else forwards
        self.stream.reset()
        try:
            with torch.no_grad():
                nll = self._read(input_ids, np.array([len(text) for text in texts]), progress)
                for _ in range(forwards, most):
                    self.scorer(NO_TEXT.to(self.runtime.device), ends=True)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                f"memory ran out over {counted(len(texts), 'document')} of up to {input_ids.shape[1]} tokens: what "
                "is scored is kept; give a smaller --batch_size, --prefill_chunk or --max_length, or a "
                "--deepspeed_config that offloads parameters"
            ) from None
        return [row[: len(text) - 1] for row, text in zip(nll, texts)]

    def _read(self, input_ids: Tensor, lengths: np.ndarray, progress: Progress) -> np.ndarray:
        """The NLL of rows padded beyond their `lengths`: input_ids int64 [batch, n] -> float32 [batch, n - 1]."""
        longest, found, running = input_ids.shape[1], [], _Mean()
        for part in self.prefill.parts(longest):
            chunk = input_ids[:, part].to(self.runtime.device)
            with layer_progress(self.scorer, partial(_report, progress, part, longest)):
                nll = self.scorer(chunk, ends=part.stop == longest).cpu().numpy()
            found.append(nll)
            running.add(nll[np.arange(max(part.start, 1), part.stop) < lengths[:, None]])
            progress.within_step(part.stop / longest, running.value)
        return np.concatenate(found, axis=1)


class _Mean:
    """The mean of what was added; its value is None at first."""

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def add(self, values: np.ndarray) -> None:
        self.total += float(values.sum(dtype=np.float64))
        self.count += values.size

    @property
    def value(self) -> float | None:
        return self.total / self.count if self.count else None


def _report(progress: Progress, part: slice, length: int, share: float) -> None:
    progress.within_step((part.start + share * (part.stop - part.start)) / length)
