"""Examples that are generated one by one, each filled to the length asked for."""

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from data.tasks.prompt import Prompt
from data.tasks.task import Example, TaskRequest
from utils.errors import UserError

FIRST_PROBE = 32  # units of filler; enough to see how many tokens a unit has
PROBES_BEFORE_HALVING = 12


@dataclass(frozen=True)
class Draft:
    """A prompt with so much filler. needle: the text in its context that holds the answer, if it is one text."""

    prompt: Prompt
    targets: list[str]
    needle: str | None = None


@dataclass(frozen=True)
class Recipe:
    """One example at any size: `draft(units)` has that many units of filler, the same ones every time it is called.

    most: how many units there are, None for no end. fixed: how many are taken whatever the length; None fills it.
    """

    draft: Callable[[int], Draft]
    most: int | None = None
    fixed: int | None = None


class GeneratedExamples:
    """A task's Examples: example i depends on the seed and on i alone, so every rank can make its own."""

    def __init__(self, request: TaskRequest, recipe: Callable[[int], Recipe], answer: int = 0) -> None:
        """recipe: from an example's index to its Recipe. Raises UserError without a length.

        answer: tokens of the length that are left for the answer; what a tokenizer adds before a text then counts for
        nothing, as RULER has it.
        """
        self._count, self._length = request.need_length()
        self._request, self._recipe, self._answer = request, recipe, answer

    def __len__(self) -> int:
        return self._request.samples

    def __getitem__(self, index: int) -> Example:
        recipe, name = self._recipe(index), self._request.name
        units = self._units(recipe) if recipe.fixed is None else recipe.fixed
        draft = recipe.draft(units)
        return Example(
            index=index,
            id=f"{name}:{self._length}:{self._request.seed}:{index}",
            task=name,
            prompt=draft.prompt,
            targets=draft.targets,
            length=self._count(draft.prompt),
            depth=None if draft.needle is None else depth_of(draft.needle, draft.prompt.context),
        )

    def _units(self, recipe: Recipe) -> int:
        """As many as fit. Raises UserError where not even none does."""
        # What the tokenizer adds before a text counts as RULER counts, where the answer does.
        most = self._length - self._answer + (self._request.beginning if self._answer else 0)
        try:
            return most_units(lambda units: self._count(recipe.draft(units).prompt), most, recipe.most)
        except TooLong as error:
            raise UserError(
                f"--{self._request.length_flag} {self._length} is too short for --dataset {self._request.name}: "
                f"without any filler its prompt has {error.tokens} tokens already"
                f"{f', and {self._answer} are left for the answer' if self._answer else ''}"
            ) from None


def generator(request: TaskRequest, index: int, purpose: str = "") -> random.Random:
    """Random numbers of one example, the same on every machine; `purpose` tells several of its streams apart."""
    return random.Random(f"{request.seed}/{index}/{purpose}")


def depth_of(needle: str, context: str) -> float:
    """Depth of `needle` in `context`, in characters: 0 at its beginning, 1 at its end."""
    return context.index(needle) / max(1, len(context) - len(needle))


class TooLong(Exception):
    """Not even the prompt without filler fits: it has `tokens` tokens."""

    def __init__(self, tokens: int) -> None:
        super().__init__(tokens)
        self.tokens = tokens


def most_units(count: Callable[[int], int], length: int, most: int | None = None) -> int:
    """The largest number of units, up to `most`, with which `count(units)` tokens are no more than `length`.

    count: grows with the units, nearly linearly, so that a few calls are enough. Raises TooLong.
    """
    empty = count(0)
    if empty > length:
        raise TooLong(empty)
    low, high = (0, empty), None  # (units, tokens) that fit, and that do not
    guess = FIRST_PROBE
    for probe in itertools.count():
        guess = guess if most is None else min(guess, most)
        if guess == low[0]:
            return guess
        tokens = count(guess)
        if tokens <= length:
            low = (guess, tokens)
        else:
            high = (guess, tokens)
        if high and high[0] - low[0] == 1:
            return low[0]
        guess = _next_guess(empty, low, high, length, halve=probe >= PROBES_BEFORE_HALVING)


def _next_guess(empty: int, low: tuple[int, int], high: tuple[int, int] | None, length: int, halve: bool) -> int:
    """Units between `low` and `high`, both excluded, that should have `length` tokens, seen from the nearer of them.

    halve: whatever the curve, half of what is left, or twice as many where there is no `high` yet.
    """
    if halve:
        return (low[0] + high[0]) // 2 if high else 2 * low[0]
    near = low if high is None or length - low[1] <= high[1] - length else high
    # The average of all units rather than of those in between, whose few tokens say little of them.
    per_unit = (near[1] - empty) / near[0] if near[0] else (high[1] - empty) / high[0]
    if not per_unit:
        return 2 * near[0]
    guess = near[0] + math.floor((length - near[1]) / per_unit)
    return max(low[0] + 1, guess) if high is None else min(max(low[0] + 1, guess), high[0] - 1)
