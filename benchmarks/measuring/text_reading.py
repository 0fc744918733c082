"""A text read by a model, of Transformers or another library, timed: its perplexity, as a prompt, and on from there."""

import time
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks.measuring.children import Case
from models.assumptions import cache_of, with_cache
from models.scoring.nll_scorer import NllScorer

QUANTITIES = {
    "perplexity_speed": "tokens/s of perplexity",
    "prompt_speed": "tokens/s of the prompt",
    "decode_speed": "tokens/s decoded after it",
}


class TextModel(Protocol):
    """A model that reads texts of int64 ids [n], each anew."""

    def nll(self, ids: Tensor) -> Tensor:
        """NLL in nats of tokens 1 to n - 1: float32 [n - 1]."""
        ...

    def prefill(self, ids: Tensor) -> None:
        """Read a prompt; `generate` goes on behind it."""
        ...

    def generate(self, count: int) -> list[int]:
        """The next `count` tokens, greedily. Each is read, so the one after them is known as well."""
        ...


class OwnModel:
    """A TextModel: a model of Transformers, converted or not, that reads a text or a prompt in one forward."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model, self.scorer = model, NllScorer(model)

    def nll(self, ids: Tensor) -> Tensor:
        return self.scorer(ids[None])[0]

    def prefill(self, ids: Tensor) -> None:
        output = self.model(input_ids=ids[None], use_cache=True, logits_to_keep=1)
        self.cache, self.next = cache_of(output), output.logits.argmax(-1)

    def generate(self, count: int) -> list[int]:
        tokens = []
        for _ in range(count):
            tokens.append(self.next.item())
            step = self.model(input_ids=self.next, **with_cache(self.model, self.cache), use_cache=True)
            self.next = step.logits.argmax(-1)
        return tokens


def read_text(model: TextModel, ids: Tensor, tokens: int) -> Case:
    """A text's mean "nll", and QUANTITIES: tokens/s of its NLL, of it as a prompt, and of `tokens` more behind it."""
    times = [time.perf_counter()]
    nll = model.nll(ids)
    times.append(time.perf_counter())
    model.prefill(ids)
    times.append(time.perf_counter())
    model.generate(tokens)
    times.append(time.perf_counter())
    seconds = [after - before for before, after in pairwise(times)]
    speeds = [count / taken for count, taken in zip((len(ids), len(ids), tokens), seconds)]
    return {"nll": nll.mean(dtype=torch.float64).item(), **dict(zip(QUANTITIES, speeds))}
