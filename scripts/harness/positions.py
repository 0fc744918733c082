"""Texts that go beyond an unconverted model's table of positions: refused in one sentence, before the model fails."""

from torch import nn

from models.loading.vanilla import position_table_length
from utils.errors import SharedError


def beyond_table(model: nn.Module, tokens: int, what: str, give: str) -> str | None:
    """The sentence that `what`, of so many tokens, is beyond the model's table of positions; None where it is not.

    give: how to stay within it, with {most} where the number of positions belongs.
    """
    table = position_table_length(model)
    if table is None or tokens <= table:
        return None
    return (
        f"{what} is beyond this model's table of {table} positions: give {give.format(most=table)}, or a model with "
        "rotary or ALiBi positions"
    )


def refuse_prompts_beyond_table(model: nn.Module, length: int, generated: int, flag: str, counted: int = 0) -> None:
    """Raise SharedError where prompts of `length` tokens leave the model no position for what it generates.

    flag: the one that says how long prompts are, in which `counted` tokens are the answer's. generated: tokens, of
    which the last is not read.
    """
    table, more = position_table_length(model), generated - 1 - counted
    room = 0 if table is None else table - more
    sentence = beyond_table(
        model,
        length + more,
        f"{flag} {length} with --max_generation_length {generated}",
        f"{flag} {room} at most" if room >= 2 else "a smaller --max_generation_length",  # the least that the flag takes
    )
    if sentence is not None:
        raise SharedError(sentence)
