"""Putting the examples of a task to a model: prompts in, lines of samples.jsonl out."""

import hashlib
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache

from data.arguments import Truncation
from data.tasks.prompt import PromptEncoder
from data.tasks.task import Example, Task
from data.tokenization import unknown_token
from scripts.downstream.shared_prefill import Prompts, SharedPrefill
from scripts.generation.generator import NO_MEMORY, Failure, Generated, Generator
from scripts.generation.padding import pad_left
from utils.errors import UserError
from utils.trials.summary import COMPONENTS

Line = dict[str, Any]
NO_PROMPT = [0, 0]


@dataclass(frozen=True)
class Answers:
    """What was generated after a batch of prompts. shared: per prompt, tokens of it that were read for another one."""

    generated: Generated
    shared: list[int]


class TaskRunner:
    """Generates the answers to a batch of examples and scores them.

    Prompts are cut as `truncation` says, and to the `last` tokens of these (None: all). vocab_size: how many tokens the
    model knows. shares: whether a beginning that prompts share is read once. Where ranks are synced, every one is
    needed in every forward, and one without an example reads two tokens.

    cut: the id of the first example whose prompt has lost its end, as the published code cuts it; None without one.
    """

    def __init__(
        self,
        task: Task,
        encoder: PromptEncoder,
        generator: Generator,
        truncation: Truncation,
        last: int | None,
        vocab_size: int,
        shares: bool = False,
    ) -> None:
        self.task, self.encoder, self.generator = task, encoder, generator
        self.truncation, self.last, self.vocab_size = truncation, last, vocab_size
        self.cut: Hashable = None
        self.shared = SharedPrefill(generator) if shares else None

    def prompt(self, example: Example) -> list[int]:
        """The tokens that the model reads. Raises UserError if it does not know one of them."""
        most, side = self.truncation.max_length, self.truncation.truncation_side
        if most is None or side != "right":
            ids = self.encoder.encode(example.prompt)
        else:
            ids = self.encoder.encode_within(example.prompt, most)
            if len(ids) > most and self.cut is None:
                self.cut = example.id
        ids = truncate(ids, most, side)
        ids = truncate(ids, self.last, "left")
        refusal = unknown_token(self.encoder.tokenizer, ids, self.vocab_size, f"example {example.id!r}")
        if refusal:
            raise UserError(refusal)
        return ids

    def lines(
        self,
        examples: Sequence[Example],
        prompts: Prompts,
        coming: Iterable[Prompts] = (),
        columns: int = 0,
    ) -> list[Line]:
        """The line of samples.jsonl for each example, given its `prompt`; also of one that fails.

        coming: the prompts of the batches after this one. columns: of the longest prompt of a rank, where all read as
        many.
        """
        if not examples:
            if self.generator.synced:
                self._generate([NO_PROMPT], columns)
            return []
        self.generator.seed([example.index for example in examples])
        answers = self._share(prompts, coming) or self._generate(prompts, columns)
        failed = isinstance(answers, Failure)
        if failed and len(prompts) > 1:
            return [line for alone in zip(examples, prompts) for line in self.lines(*([part] for part in alone))]
        outcomes = [answers] if failed else answers.generated.texts
        shared = [0] if failed else answers.shared
        return [self._line(*found) for found in zip(examples, prompts, outcomes, shared)]

    def _share(self, prompts: Prompts, coming: Iterable[Prompts]) -> Answers | Failure | None:
        """Answers after a beginning that is read once; None where none is shared, or it takes too much memory."""
        if self.shared is None:
            return None
        with self.generator.attempt() as attempt:
            begun = self.shared.begin(prompts, coming)
            if begun is None:
                return None
            return Answers(self._after(begun.cache, prompts), begun.shared)
        self.shared.drop()
        return None if attempt.failure.reason == NO_MEMORY else attempt.failure

    def _after(self, cache: Cache, prompts: Prompts) -> Generated:
        input_ids, mask = pad_left(prompts)
        return self.generator.generate(input_ids, cache, mask)

    def _generate(self, prompts: Prompts, columns: int) -> Answers | Failure:
        input_ids, mask = pad_left(prompts, columns)
        with self.generator.attempt() as attempt:
            return Answers(self.generator.generate(input_ids, attention_mask=mask), [0] * len(prompts))
        return attempt.failure

    def _line(self, example: Example, prompt: list[int], outcome: str | Failure, shared: int) -> Line:
        line: Line = {
            "index": example.index,
            "id": example.id,
            "task": self.task.name,
            "prompt_sha256": hashlib.sha256(torch.tensor(prompt).numpy().tobytes()).hexdigest(),
            "length": len(prompt),
            "shared_tokens": shared,
            "depth": example.depth,
            "output": None,
            "targets": list(example.targets),
            "score": None,
            "error": None,
        }
        if isinstance(outcome, Failure):
            return line | {"error": f"{outcome.reason} over a prompt of {len(prompt)} tokens"}
        line |= {"output": outcome, "score": self.task.metric(outcome, example.targets)}
        if self.task.components is not None:
            line[COMPONENTS] = self.task.components(outcome, example.targets)
        return line


def truncate(ids: list[int], max_length: int | None, side: str) -> list[int]:
    """At most `max_length` tokens; side: which end of the rest goes: "right", "left", or the "center".

    Of an odd length the center leaves the end one token more, as published.
    """
    if max_length is None or len(ids) <= max_length:
        return ids
    if side == "right":
        return ids[:max_length]
    if side == "left":
        return ids[-max_length:]
    head = max_length // 2
    return ids[:head] + ids[len(ids) - (max_length - head) :]
