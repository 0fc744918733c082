"""Requests of lm-eval as tokens, read by the scorers and through the caches of all other experiments."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from torch import Tensor

from models.assumptions import LOGITS_TO_KEEP, forward_names, with_cache
from scripts.generation.generator import Generator
from scripts.generation.padding import pad_left, padding_inputs
from scripts.perplexity.reading import ChunkReader
from utils.progress import Amount, Progress

Item = TypeVar("Item")
Pair = tuple[list[int], list[int]]
"""The tokens of a context, and those that are scored after it: at least one of each."""
Answer = tuple[float, bool]
"""The log-likelihood of what is scored, in nats, and whether each token of it is the likeliest."""
Show = Callable[..., Progress]
"""Given an amount, and what a running NLL is called if there is one: a bar for it."""


class ContinuationScorer:
    """Scores the ends of texts. generator: of the model, with the way in which it reads; batch_size: texts at once."""

    def __init__(self, generator: Generator, batch_size: int, show: Show) -> None:
        self.generator, self.batch_size, self.show = generator, batch_size, show

    @torch.no_grad()
    def score(self, pairs: Sequence[Pair]) -> list[Answer]:
        """The answers in the order of the pairs; those whose model inputs are the same are read once."""
        inputs: dict[tuple[int, ...], list[int]] = {}
        for place, (context, scored) in enumerate(pairs):
            inputs.setdefault(tuple(context + scored[:-1]), []).append(place)
        progress = self.show(Amount(len(pairs), 0, "requests", digits=2))
        answers: dict[int, Answer] = {}
        for batch in batches(sorted(inputs, key=len, reverse=True), self.batch_size):
            places = [inputs[ids] for ids in batch]
            longest = max(len(pairs[place][1]) for own in places for place in own)
            for logits, own in zip(self.last_logits(list(map(list, batch)), longest), places):
                answers |= {place: _answer(logits, pairs[place][1]) for place in own}
            progress.end_step(sum(map(len, places)))
        return [answers[place] for place in range(len(pairs))]

    def last_logits(self, texts: Sequence[list[int]], count: int) -> Tensor:
        """The logits of the last `count` tokens of each text, of a shorter one behind padding: [batch, count, vocab].

        Long texts are read into a cache before, in chunks, so memory grows with `count` and not with the text.
        """
        input_ids, mask = pad_left(texts)
        model, device = self.generator.model, self.generator.device
        cache = self.generator.read(input_ids, mask, left=count)
        mask = None if bool(mask.all()) else mask.to(device)
        new = input_ids if cache is None else input_ids[:, -count:]
        inputs: dict[str, Any] = padding_inputs(model, mask, new.shape[1])
        inputs |= {"use_cache": False} if cache is None else {**with_cache(model, cache), "use_cache": True}
        inputs |= {LOGITS_TO_KEEP: count} if LOGITS_TO_KEEP in forward_names(model) else {}
        return model(input_ids=new.to(device), **inputs).logits[:, -count:]


def _answer(logits: Tensor, scored: list[int]) -> Answer:
    """logits: [n, vocab], of which the last predict what is scored."""
    logits = logits[-len(scored) :].float()
    targets = torch.tensor(scored, device=logits.device)
    chosen = logits.log_softmax(-1).gather(-1, targets[:, None])
    return float(chosen.sum(dtype=torch.float64)), bool((logits.argmax(-1) == targets).all())


class DocumentScorer:
    """Scores whole documents, each in one pass, or in lm-eval's windows where they are longer than `max_length`."""

    def __init__(self, reader: ChunkReader, batch_size: int, max_length: int, show: Show) -> None:
        self.reader, self.batch_size, self.max_length, self.show = reader, batch_size, max_length, show

    def windows(self, document: list[int], prefix: int) -> list[Pair]:
        """What is read: one window, or disjoint ones, of which the first follows the token `prefix`."""
        found = get_rolling_token_windows(document, prefix, self.max_length, context_len=1)
        return [make_disjoint_window(window) for window in found]

    def score(self, documents: Sequence[Sequence[Pair]]) -> list[float]:
        """The log-likelihood of each document's windows together, in nats; 0 of one that is empty."""
        windows = [(place, window) for place, own in enumerate(documents) for window in own]
        windows.sort(key=_length, reverse=True)
        progress = self.show(Amount(sum(len(scored) for _, (_, scored) in windows), 0), "nll")
        totals, tokens = np.zeros(len(documents)), 0
        for batch in batches(windows, self.batch_size):
            count = sum(len(scored) for _, (_, scored) in batch)
            progress.begin_step(count)
            rows = self.reader.read([context + scored for _, (context, scored) in batch], progress)
            for (place, (_, scored)), nll in zip(batch, rows):
                totals[place] -= nll[-len(scored) :].sum(dtype=np.float64)
            tokens += count
            progress.end_step(count, nll=-float(totals.sum()) / tokens)
        return totals.tolist()


def batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """The items in turn, at most so many at once."""
    return (items[start : start + size] for start in range(0, len(items), size))


def _length(window: tuple[int, Pair]) -> int:
    _, (context, scored) = window
    return len(context) + len(scored)
