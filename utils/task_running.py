"""Putting the examples of a task to a model: prompts in, lines of samples.jsonl out."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from data.tasks.prompt import PromptEncoder
from data.tasks.task import Example, Task
from utils.generation import Generated, Generator
from utils.runtime import is_out_of_memory

Line = dict[str, Any]
NO_PROMPT = [0, 0]


class TaskRunner:
    """Generates the answers to a batch of examples and scores them.

    max_length: prompts are cut to so many tokens on `side` (None: never). sharded: whether ZeRO-3 spreads the weights:
    every rank is then needed in every forward, and one without an example reads two tokens.
    """

    def __init__(
        self,
        task: Task,
        encoder: PromptEncoder,
        generator: Generator,
        max_length: int | None,
        side: str,
        sharded: bool,
    ) -> None:
        self.task, self.encoder, self.generator = task, encoder, generator
        self.max_length, self.side, self.sharded = max_length, side, sharded

    def lines(self, examples: Sequence[Example]) -> list[Line]:
        """What samples.jsonl keeps of each example. One for which memory runs out is recorded so."""
        if not examples:
            if self.sharded:
                self._generate([NO_PROMPT])
            return []
        prompts = [truncate(self.encoder.encode(example.prompt), self.max_length, self.side) for example in examples]
        generated = self._generate(prompts)
        if generated is None and len(prompts) > 1 and not self.sharded:
            return [line for example in examples for line in self.lines([example])]
        texts = [None] * len(examples) if generated is None else generated.texts
        return [self._line(*found) for found in zip(examples, prompts, texts)]

    def _generate(self, prompts: Sequence[list[int]]) -> Generated | None:
        """None where memory ran out."""
        try:
            input_ids, mask = pad_left(prompts)
            return self.generator.generate(input_ids, attention_mask=mask)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return None

    def _line(self, example: Example, prompt: list[int], output: str | None) -> Line:
        line: Line = {
            "index": example.index,
            "id": example.id,
            "task": self.task.name,
            "prompt_sha256": hashlib.sha256(torch.tensor(prompt).numpy().tobytes()).hexdigest(),
            "length": len(prompt),
            "depth": example.depth,
            "output": output,
            "targets": list(example.targets),
            "score": None,
            "error": None,
        }
        if output is None:
            return line | {"error": f"memory ran out over a prompt of {len(prompt)} tokens"}
        return line | {"score": self.task.metric(output, example.targets)}


def truncate(ids: list[int], max_length: int | None, side: str) -> list[int]:
    """At most `max_length` tokens; side: which end of the rest goes: "right", "left", or the "center"."""
    if max_length is None or len(ids) <= max_length:
        return ids
    if side == "right":
        return ids[:max_length]
    if side == "left":
        return ids[-max_length:]
    tail = max_length // 2
    return ids[: max_length - tail] + ids[len(ids) - tail :]


def pad_left(prompts: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    """int64 token ids and mask, [batch, longest]; padded with token 0, which the mask hides."""
    longest = max(map(len, prompts))
    input_ids = torch.zeros(len(prompts), longest, dtype=torch.int64)
    mask = torch.zeros_like(input_ids)
    for row, ids in enumerate(prompts):
        input_ids[row, longest - len(ids) :] = torch.tensor(ids)
        mask[row, longest - len(ids) :] = 1
    return input_ids, mask
