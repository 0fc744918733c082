"""The beginning that prompts share, a document that several questions are about, is read once: the cache branches.

Only where token ids are equal is a beginning shared: the tokens at the end of a document may depend on what follows it.
A bounded cache cannot be cropped, so where it is to branch must be known before it is read: that is why the prompts
that come are looked at.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from transformers.cache_utils import Cache

from models.attention.decode.cache_state import branch_cache, repeat_rows
from models.conversion import is_converted
from models.model_base import empty_cache, is_hybrid
from scripts.generation.generator import Generator
from scripts.generation.padding import pad_left
from scripts.harness.model import RunnableModel
from scripts.harness.model_arguments import ModelPlan
from scripts.harness.prefill import reason_for_one_forward

WORTH = 8
"""A beginning is shared where it spares this part of a prompt at least: a few common words are not worth a forward."""

Prompts = Sequence[list[int]]


@dataclass(frozen=True)
class Begun:
    """A batch of prompts, all but their last tokens read into `cache`, padded on the left.

    shared: per prompt, how many of its tokens were not read for it.
    """

    cache: Cache
    shared: list[int]


class SharedPrefill:
    """Keeps the cache at the end of a beginning as long as the prompts that come have it."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.drop()

    def drop(self) -> None:
        """Forget the beginning, and free its cache."""
        self.ids: list[int] = []
        self.cache: Cache | None = None

    def begin(self, prompts: Prompts, coming: Iterable[Prompts]) -> Begun | None:
        """Read a batch of prompts but for their last tokens; None where they share nothing, and are read as alone.

        So are prompts of several lengths by a model with recurrent states, which take up padding behind a beginning.
        coming: the batches after this one; as many are looked at as share its beginning.
        """
        if len(set(map(len, prompts))) > 1 and is_hybrid(self.generator.model.config):
            self.drop()
            return None
        held = len(self.ids) if all(_continues(ids, self.ids) for ids in prompts) else 0
        if not held:
            self.drop()
        point, needed = branching_point(prompts, coming, held)
        if not point:
            self.drop()
            return None
        self._read_to(prompts[0][:point])
        branch = branch_cache(self.cache, room=self._room(prompts, point)) if needed else self.cache
        if not needed:
            self.drop()  # the last prompts of a document take its cache itself
        begun = self._read_rest(branch, prompts, point)
        longest = begun.shared.index(max(begun.shared))
        begun.shared[longest] -= point - held  # it was read for one of them
        return begun

    def _read_to(self, ids: list[int]) -> None:
        if self.cache is None:
            self.cache = empty_cache(self.generator.model)
        new = ids[len(self.ids) :]
        if new:
            self.generator.prefill(torch.tensor([new]), self.cache)
        self.ids = ids

    def _room(self, prompts: Prompts, point: int) -> int:
        return max(map(len, prompts)) - point + self.generator.options["max_new_tokens"]

    def _read_rest(self, cache: Cache, prompts: Prompts, point: int) -> Begun:
        """Read on from a cache of one row at `point`, in as many rows as there are prompts."""
        longest = max(map(len, prompts))
        padding = [longest - len(ids) for ids in prompts]
        if is_converted(self.generator.model):  # counts the tokens of each row, wherever its padding is
            repeat_rows(cache, [0] * len(prompts))
            shared = [point] * len(prompts)
            rest, mask = pad_left([ids[point:] for ids in prompts])
            mask = torch.cat([torch.ones(len(prompts), point, dtype=mask.dtype), mask], dim=1)
        else:  # counts columns: the tokens that padding pushes beyond the branching point are read anew
            repeat_rows(cache, padding)
            shared = [max(0, point - columns) for columns in padding]
            rest, mask = pad_left(prompts)
            rest = rest[:, point:]
        if rest.shape[1] > 1:  # the last token of a prompt is read by `generate`
            self.generator.prefill(rest[:, :-1], cache, mask[:, :-1])
        return Begun(cache, shared)


def branching_point(prompts: Prompts, coming: Iterable[Prompts], held: int = 0) -> tuple[int, bool]:
    """Where a cache is to branch: the tokens of the beginning that spares most, and whether later batches have it too.

    held: tokens that all prompts begin with and that are read already; the point is not before them. 0 for no point.
    """
    first, rows, point = prompts[0], 0, len(prompts[0]) - 1
    worth = max(1, len(first) // WORTH)
    found = []
    for batch in chain([prompts], coming):
        point = min([point, *(common_length(first, ids[:-1]) for ids in batch)])
        if point < (held or worth):
            break
        rows += len(batch)
        found.append((point, rows))
    choices = [(point, rows) for point, rows in found if rows > 1 and point - held >= worth]
    choices += [(held, found[-1][1])] if held else []
    point, rows = max(choices, key=_spared, default=(0, 0))
    return point, rows > len(prompts)


def _spared(choice: tuple[int, int]) -> int:
    """Tokens that need not be read, where so many rows share so many."""
    point, rows = choice
    return point * (rows - 1)


def common_length(ids: list[int], others: list[int]) -> int:
    """How many tokens two texts begin with in common."""
    low, high = 0, min(len(ids), len(others))
    while low < high:
        middle = (low + high + 1) // 2
        if ids[low:middle] == others[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _continues(ids: list[int], beginning: list[int]) -> bool:
    """Whether a prompt goes on after this beginning."""
    return len(ids) > len(beginning) and ids[: len(beginning)] == beginning


def reason_to_read_alone(model: RunnableModel, method: ModelPlan, synced: bool) -> str | None:
    """Why prompts are read each from its start; None where they may share a beginning.

    method: what `model` was loaded by. synced: whether every rank is needed in every forward.
    """
    if synced:
        return "under ZeRO-3 every rank takes part in every forward"
    return reason_for_one_forward(model, method)
