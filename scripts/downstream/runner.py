"""Putting the examples of a task to a model: prompts in, lines of samples.jsonl out."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from data.arguments import Truncation
from data.tasks.prompt import PromptEncoder
from data.tasks.task import Example, Task
from data.tokenization import unknown_token
from scripts.generation.generator import Failure, Generated, Generator
from utils.errors import UserError
from utils.trials.summary import COMPONENTS

Line = dict[str, Any]
NO_PROMPT = [0, 0]


class TaskRunner:
    """Generates the answers to a batch of examples and scores them.

    Prompts are cut as `truncation` says, and to the `last` tokens of these (None: all). vocab_size: how many tokens the
    model knows. Where ranks are synced, every one is needed in every forward, and one without an example reads two
    tokens.
    """

    def __init__(
        self,
        task: Task,
        encoder: PromptEncoder,
        generator: Generator,
        truncation: Truncation,
        last: int | None,
        vocab_size: int,
    ) -> None:
        self.task, self.encoder, self.generator = task, encoder, generator
        self.truncation, self.last, self.vocab_size = truncation, last, vocab_size

    def prompt(self, example: Example) -> list[int]:
        """The tokens that the model reads. Raises UserError if it does not know one of them."""
        most, side = self.truncation.max_length, self.truncation.truncation_side
        if most is None or side != "right":
            ids = self.encoder.encode(example.prompt)
        else:
            ids = self.encoder.encode_within(example.prompt, most)
        ids = truncate(ids, most, side)
        ids = truncate(ids, self.last, "left")
        refusal = unknown_token(self.encoder.tokenizer, ids, self.vocab_size, f"example {example.id!r}")
        if refusal:
            raise UserError(refusal)
        return ids

    def lines(self, examples: Sequence[Example], prompts: Sequence[list[int]]) -> list[Line]:
        """The line of samples.jsonl for each example, given its `prompt`; also of one that fails."""
        if not examples:
            if self.generator.synced:
                self._generate([NO_PROMPT])
            return []
        self.generator.seed([example.index for example in examples])
        generated = self._generate(prompts)
        failed = isinstance(generated, Failure)
        if failed and len(prompts) > 1:
            return [line for alone in zip(examples, prompts) for line in self.lines(*([part] for part in alone))]
        outcomes = [generated] if failed else generated.texts
        return [self._line(*found) for found in zip(examples, prompts, outcomes)]

    def _generate(self, prompts: Sequence[list[int]]) -> Generated | Failure:
        input_ids, mask = pad_left(prompts)
        with self.generator.attempt() as attempt:
            return self.generator.generate(input_ids, attention_mask=mask)
        return attempt.failure

    def _line(self, example: Example, prompt: list[int], outcome: str | Failure) -> Line:
        line: Line = {
            "index": example.index,
            "id": example.id,
            "task": self.task.name,
            "prompt_sha256": hashlib.sha256(torch.tensor(prompt).numpy().tobytes()).hexdigest(),
            "length": len(prompt),
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


def pad_left(prompts: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    """int64 token ids and mask, [batch, longest]; padded with token 0, which the mask hides."""
    longest = max(map(len, prompts))
    input_ids = torch.zeros(len(prompts), longest, dtype=torch.int64)
    mask = torch.zeros_like(input_ids)
    for row, ids in enumerate(prompts):
        input_ids[row, longest - len(ids) :] = torch.tensor(ids)
        mask[row, longest - len(ids) :] = 1
    return input_ids, mask
