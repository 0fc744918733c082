"""--gen_kwargs, checked before a model is loaded: names that are known, and values of their kind."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import GenerationConfig

from utils.errors import UserError, did_you_mean
from utils.trials.reading import NUMBER, is_of

LENGTH = "max_gen_toks"
OTHER_LENGTHS = ("max_new_tokens", "max_tokens", "max_completion_tokens")
"""What lm-eval takes for LENGTH too, where a task has none."""
NOT_HERE = {
    "max_length": f"it would count the prompt too: give {LENGTH}",
    "max_cache_len": "the harness makes the cache",
    "cache_implementation": "the harness makes the cache",
    "use_cache": "the harness always decodes behind a cache",
    "pad_token_id": "the harness pads, with the tokenizer's own",
    "num_return_sequences": "lm-eval scores one answer to a prompt",
    "return_dict_in_generate": "lm-eval takes tokens alone",
    "output_attentions": "lm-eval takes tokens alone",
    "output_hidden_states": "lm-eval takes tokens alone",
    "output_logits": "lm-eval takes tokens alone",
    "output_scores": "lm-eval takes tokens alone",
    "transformers_version": "it is no argument of generation",
}
"""Fields of a GenerationConfig that are refused, with the reason."""


@dataclass(frozen=True)
class Range:
    """Numbers that an argument may have, and how they are called. kind: int or NUMBER."""

    words: str
    kind: Any
    least: float
    most: float = math.inf

    def has(self, value: Any) -> bool:
        return is_of(value, self.kind) and self.least <= value <= self.most


RANGES = {
    **dict.fromkeys((LENGTH, *OTHER_LENGTHS, "num_beams"), Range("a whole number of at least 1", int, 1)),
    "temperature": Range("a number of at least 0", NUMBER, 0),
    "top_k": Range("a whole number of at least 0", int, 0),
    "top_p": Range("a number from 0 to 1", NUMBER, 0, 1),
}


def check_gen_kwargs(given: Mapping[str, Any]) -> None:
    """Raise UserError for a name that nobody knows, or a value that cannot be meant.

    Values that only Transformers can judge are left to it.
    """
    fields = [name for name in GenerationConfig().to_dict() if not name.startswith("_")]
    known = sorted({"until", *RANGES, *fields} - NOT_HERE.keys())
    for name, value in given.items():
        if name in NOT_HERE:
            raise UserError(f"--gen_kwargs: {name!r} cannot be given, {NOT_HERE[name]}")
        if name not in known:
            raise UserError(
                f"--gen_kwargs: {name!r} is no argument of generation; give lm-eval's (until, {LENGTH}) or those of "
                f"Transformers' GenerationConfig{did_you_mean(name, known)}"
            )
        words = _wanted(name, value)
        if words is not None:
            raise UserError(f"--gen_kwargs: {name!r} must be {words}, not {value!r}")
    if given.get("do_sample") and given.get("temperature") == 0:
        raise UserError("--gen_kwargs: 'temperature' must be above 0 where 'do_sample' is true, not 0")
    lengths = [name for name in (LENGTH, *OTHER_LENGTHS) if name in given]
    if len(lengths) > 1:
        raise UserError(f"--gen_kwargs: {' and '.join(map(repr, lengths))} are the same argument: give one of them")


def _wanted(name: str, value: Any) -> str | None:
    """What a value should be, in words; None where it is."""
    if name == "until":
        return None if isinstance(value, str) or is_of(value, list[str]) else "a text or a list of texts"
    if name == "do_sample":
        return None if isinstance(value, bool) else "true or false"
    if name in RANGES and not RANGES[name].has(value):
        return RANGES[name].words
    return None


def as_lm_eval_names(given: Mapping[str, Any]) -> dict[str, Any]:
    """The same with the length by lm-eval's first name for it, else a task's own would count over it."""
    return {LENGTH if name in OTHER_LENGTHS else name: value for name, value in given.items()}
