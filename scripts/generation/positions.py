"""Generating at positions of documents: the text so far is the prompt, the text that follows the reference."""

from collections.abc import Sequence
from typing import Any

import torch

from models.attention.decode.cache_state import branch_cache, cache_bytes
from models.loading.vanilla import constant_rope_length
from models.model_base import empty_cache
from scripts.generation.arguments import PositionPlan
from scripts.generation.generator import Failure, Generator

Line = dict[str, Any]


class _Reading:
    """A batch of texts of token ids, read to the same length into one cache."""

    def __init__(self, generator: Generator, texts: list[list[int]]) -> None:
        self.generator, self.texts = generator, texts
        self.cache = empty_cache(generator.model)
        self.length, self.seconds = 0, 0.0

    def keep(self, rows: list[int]) -> None:
        """Go on with these rows only."""
        previous = len(self.texts)
        if len(rows) == previous:
            return
        self.texts = [self.texts[row] for row in rows]
        self.seconds *= len(rows) / previous
        if self.length:
            self.cache.reorder_cache(torch.tensor(rows))

    def generate(self, length: int) -> list[Line]:
        """Read on until the texts' first `length` tokens are the prompt, then generate. Returns a line per row."""
        prompt = torch.tensor([ids[:length] for ids in self.texts])
        if not self.length:
            self.generator.begin(length)
        if self.length < length - 1:  # the last token of a prompt is read by `generate`
            self.seconds += self.generator.prefill(prompt[:, self.length : -1], self.cache)
            self.length = length - 1
        generated = self.generator.generate(prompt, branch_cache(self.cache, self.generator.options["max_new_tokens"]))
        return [
            {
                "output": text,
                "generated": tokens,
                "prefill_seconds": round(self.seconds, 6),
                "decode_seconds": round(generated.seconds, 6),
                "batch": len(self.texts),
                "cache_bytes": cache_bytes(self.cache) // len(self.texts),
                "error": None,
            }
            for text, tokens in zip(generated.texts, generated.tokens)
        ]


class PositionGenerator:
    """Generates at each of a plan's positions; a batch of texts is read once, every position goes on from the last.

    With --runtime_truncation a prompt is only its last so many tokens, read anew at each position; so is a whole prompt
    where RoPE scaling follows its length, and the cached keys of a shorter one are not its own. Where ranks are synced,
    every one is needed at every position, and one without a text reads as many tokens as the others.
    """

    def __init__(self, generator: Generator, plan: PositionPlan, converted: bool) -> None:
        """converted: whether the model has Λ-attention, whose RoPE frequencies do not change."""
        self.generator, self.positions, self.truncation = generator, plan.positions, plan.runtime_truncation
        self.reference_length = generator.options["max_new_tokens"]
        self.constant = None if converted else constant_rope_length(generator.model.config)

    def lines(self, texts: Sequence[list[int]], indices: Sequence[int]) -> list[tuple[int, Line]]:
        """(text, its line for samples.jsonl) at each position that a text reaches past.

        indices: the texts' own in the corpus. A batch that fails is read again, text by text.
        """
        lines: list[tuple[int, Line]] = []
        rows, reading, previous = list(range(len(texts))), None, 1
        for position in self.positions:
            reaching = [row for row in rows if len(texts[row]) > position]
            if not reaching and not self.generator.synced:
                break
            if not reaching:
                reading = self._read_nothing(position, previous)
            elif reading is None or self._reads_anew(position):
                reading = self._read([texts[row] for row in reaching], position)
            else:
                reading.keep([rows.index(row) for row in reaching])
            rows, previous = reaching, position
            self.generator.seed([indices[row] for row in rows], position)
            found = self._generate(reading, min(position, self.truncation or position, *map(len, reading.texts)))
            failed = isinstance(found, Failure)
            if failed and len(texts) > 1:
                reading = None  # its cache must not be in the way of the next attempt
                return [(row, line) for row, ids in enumerate(texts) for _, line in self.lines([ids], [indices[row]])]
            reading = None if failed else reading  # after a failure the next position begins anew
            lines += [(row, self._line(texts[row], position, found, place)) for place, row in enumerate(rows)]
        return lines

    def _reads_anew(self, position: int) -> bool:
        return self.truncation is not None or (self.constant is not None and position > self.constant)

    def _read(self, texts: list[list[int]], position: int) -> _Reading:
        first = max(0, position - self.truncation) if self.truncation is not None else 0
        return _Reading(self.generator, [ids[first:] for ids in texts])

    def _read_nothing(self, position: int, previous: int) -> _Reading:
        """In place of texts: as many tokens as another rank reads of its own, so that there are as many forwards."""
        anew = self._reads_anew(position)
        tokens = min(position, self.truncation or position) if anew else position - previous + 1
        return _Reading(self.generator, [[0] * tokens])

    def _generate(self, reading: _Reading, length: int) -> list[Line] | Failure:
        with self.generator.attempt() as attempt:
            return reading.generate(length)
        return attempt.failure

    def _line(self, ids: list[int], position: int, found: list[Line] | Failure, place: int) -> Line:
        reference = self.generator.decode(ids[position : position + self.reference_length])
        if isinstance(found, Failure):
            outcome = {"output": None, "error": f"{found.reason} at position {position}"}
        else:
            outcome = found[place]
        return {"position": position, "reference": reference, **outcome}
