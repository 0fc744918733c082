"""Generating after prompts: the options of `generate`, prefill into a cache, and what both take."""

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, StoppingCriteriaList, StopStringCriteria
from transformers.cache_utils import Cache

from models.assumptions import OUTPUT_CACHE, ROPE_TYPE, with_cache
from models.attention.sequence.caches import reading_alone, sequence_of, share_cache
from models.attention.sequence.reading import read_stretch
from models.converting.wrappers import base_model, text_config
from models.loading.vanilla import position_table_length
from models.model_base import empty_cache
from scripts.generation.arguments import Generation
from scripts.generation.padding import padding_inputs
from scripts.generation.way import Way
from utils.errors import UserError
from utils.ranks.runtime import is_out_of_memory

DEFAULT = Way()
"""A prompt is one forward, and each token another."""
NO_MEMORY = "memory ran out"
"""The reason of a failure that fewer or shorter prompts would not have."""


@dataclass(frozen=True)
class Generated:
    """texts: what was generated, per row, without special tokens and what follows a stop string.

    tokens: generated per row, the end-of-sequence token included. seconds: wall time of all rows together.
    """

    texts: list[str]
    tokens: list[int]
    seconds: float


@dataclass(frozen=True)
class Failure:
    """Why nothing was generated, as the beginning of a sentence."""

    reason: str


@dataclass
class Attempt:
    """A block of code under `Generator.attempt`. failure: None unless it failed."""

    failure: Failure | None = None


class TooFewPositions(Exception):
    """A text goes beyond the positions that the model has."""


class Generator:
    """Generates with `model` (a causal LM, not an engine around it) as a plan says.

    stop: strings that end a generation; they are not part of it. way: how prompts are read and tokens decoded.
    Raises UserError on a plan that the model cannot honour.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        generation: Generation,
        device: torch.device,
        stop: Sequence[str] = (),
        way: Way = DEFAULT,
    ) -> None:
        self.model, self.tokenizer, self.device, self.stop = model, tokenizer, device, list(stop)
        self.synced, self.reading, self.decoding = way.synced, way.reading, way.decoding
        self.sequence = sequence_of(model)
        self._seed = generation.seed or 0
        self._positions = position_table_length(model)
        self._dynamic = [part for part in model.modules() if getattr(part, ROPE_TYPE, None) == "dynamic"]
        _check_tokens(generation, model)
        self.options = _options(generation, tokenizer) | {"synced_gpus": self.synced}
        if self.stop:
            # by name `generate` would hand the tokenizer on to the model, in which Λ-attention knows no such argument
            self.options["stopping_criteria"] = StoppingCriteriaList([StopStringCriteria(tokenizer, self.stop)])

    @torch.no_grad()
    def begin(self, length: int) -> None:
        """Before a prompt of so many tokens is read from its start: dynamic RoPE scaling is to follow its length alone.

        Transformers' follows the longest text that it has seen, until one is shorter than the pre-training length.
        """
        for rotary in self._dynamic:
            for last in (0, length - 1):
                place = torch.tensor([[last]], device=self.device)
                rotary(place.float(), place)

    @torch.no_grad()
    def prefill(self, input_ids: Tensor, cache: Cache, mask: Tensor | None = None) -> float:
        """Read `input_ids`, int64 [batch, n], into `cache`, in chunks if they are many; returns the seconds it took.

        mask: int64 [batch, columns of the cache + n], 0 at padding; None is no padding. Raises TooFewPositions.
        """
        start = cache.get_seq_length()
        self._check_positions(start + input_ids.shape[1])
        mask = None if mask is None or bool(mask.all()) else mask.to(self.device)
        started = self._now()
        for part in self.reading.parts(input_ids.shape[1]):
            seen = None if mask is None else mask[:, : start + part.stop]
            self._read(input_ids[:, part].to(self.device), cache, seen)
        if self.sequence is not None and input_ids.shape[1]:
            share_cache(cache, self.sequence.process_group)
        return self._now() - started

    def _read(self, input_ids: Tensor, cache: Cache, mask: Tensor | None) -> None:
        base = base_model(self.model)
        if self.sequence is not None:
            read_stretch(self.model, self.sequence.own(input_ids), cache)
            return
        inputs = padding_inputs(base, mask, input_ids.shape[1])
        base(input_ids=input_ids, **inputs, **with_cache(base, cache), use_cache=True)

    @torch.no_grad()
    def generate(
        self, input_ids: Tensor, cache: Cache | None = None, attention_mask: Tensor | None = None
    ) -> Generated:
        """Go on after prompts `input_ids`, int64 [batch, n]; `cache`, if given, holds a beginning of them.

        Without one, prompts longer than a chunk are read in chunks. attention_mask: int64 [batch, n], 0 at padding on
        the left; None is no padding. Raises TooFewPositions.
        """
        self._check_positions(input_ids.shape[1] + self.options["max_new_tokens"] - 1)  # the last one is not read
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        started = self._now()
        if cache is None:
            cache = self.read(input_ids, mask)
        options = self.options if cache is None else {**self.options, OUTPUT_CACHE: cache}
        input_ids, mask = input_ids.to(self.device), mask.to(self.device)
        alone = nullcontext() if self.sequence is None else reading_alone(self.model)
        with alone, self.decoding:
            output = self.model.generate(input_ids, attention_mask=mask, **options)
        seconds = self._now() - started
        rows = [self._until_end(row) for row in output[:, input_ids.shape[1] :].tolist()]
        return Generated([self._text(row) for row in rows], [len(row) for row in rows], seconds)

    def read(self, input_ids: Tensor, mask: Tensor, left: int = 1) -> Cache | None:
        """A cache of prompts that take several chunks, or ranks, but for their last tokens; None for shorter ones.

        mask: int64 [batch, n], 0 at padding on the left. left: how many of the last tokens are not read. Transformers'
        own `prefill_chunk_size` would run the head after each chunk, and in 5.17 forgets what a cache holds.
        """
        self.begin(input_ids.shape[1])
        if len(self.reading.parts(input_ids.shape[1])) < 2 and self.sequence is None:
            return None
        cache = empty_cache(self.model)
        self.prefill(input_ids[:, :-left], cache, mask[:, :-left])
        return cache

    def seed(self, *place: Any) -> None:
        """Have what is sampled next depend on --seed and `place` alone, so that a trial can go on anywhere."""
        if self.options["do_sample"]:
            torch.manual_seed(random.Random(repr((self._seed, place))).getrandbits(63))

    @contextmanager
    def attempt(self) -> Iterator["Attempt"]:
        """A block that may fail; it then ends there, and the attempt has its `failure`.

        Raises UserError where other ranks wait in that forward and memory or positions ran out, and any error that
        cannot be left behind: the user's, of ranks that share the weights or a prompt, or of a device out of order.
        """
        attempt = Attempt()
        try:
            yield attempt
            return
        except UserError:
            raise
        except Exception as error:
            expected = isinstance(error, TooFewPositions) or is_out_of_memory(error)
            if self.shared_by is not None and not expected:
                raise
            attempt.failure = Failure(_reason(error))
        if self.shared_by is not None:
            raise UserError(
                f"{attempt.failure.reason}, and {self.shared_by} no rank can go on without the others: give a smaller "
                "--batch_size or --max_length, or more ranks"
            )
        self._now()  # which fails again on a device that is out of order

    @property
    def shared_by(self) -> str | None:
        """What has ranks wait for each other in a forward; None where each does its own."""
        if self.synced:
            return "under ZeRO-3"
        return None if self.sequence is None else "with --sequence_parallel"

    def _check_positions(self, tokens: int) -> None:
        if self._positions is not None and tokens > self._positions:
            raise TooFewPositions(f"the model's {self._positions} positions ran out")

    def _until_end(self, row: list[int]) -> list[int]:
        """A row without the padding behind its end-of-sequence token."""
        ends = (getattr(self.model, "generation_config", None) or self.model.config).eos_token_id
        ends = set(ends) if isinstance(ends, list) else {ends}
        return row[: next((place + 1 for place, token in enumerate(row) if token in ends), len(row))]

    def decode(self, ids: list[int]) -> str:
        """The text of tokens, special ones left out."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def _text(self, row: list[int]) -> str:
        text = self.decode(row)
        return text[: min((place for stop in self.stop if (place := text.find(stop)) >= 0), default=len(text))]

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.monotonic()


def _reason(error: Exception) -> str:
    if is_out_of_memory(error):
        return NO_MEMORY
    words = str(error).strip().partition("\n")[0]
    return words if isinstance(error, TooFewPositions) else f"{type(error).__name__} ({words})"


def _check_tokens(generation: Generation, model: nn.Module) -> None:
    """Refuse tokens that are not there, and lengths that cannot be reached: Transformers ignores them."""
    known, length = text_config(model.config).vocab_size, generation.max_generation_length
    for token in generation.suppress_tokens or ():
        if token >= known:
            raise UserError(f"--suppress_tokens {token} is no token of the model: they are numbered 0 to {known - 1}")
    if (generation.min_new_tokens or 0) > length:
        raise UserError(
            f"--min_new_tokens {generation.min_new_tokens} is more than --max_generation_length {length}: give fewer"
        )


def _options(generation: Generation, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The arguments of `generate`; a checkpoint's own sampling settings count only with --do_sample."""
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    options: dict[str, Any] = {
        "max_new_tokens": generation.max_generation_length,
        "min_new_tokens": generation.min_new_tokens,
        "suppress_tokens": generation.suppress_tokens,
        "do_sample": generation.do_sample,
        "num_beams": 1,
        "use_cache": True,  # MPT's checkpoints say otherwise, and a given cache would get the whole text at each step
        "pad_token_id": pad,
    }
    if not generation.do_sample:
        options |= dict.fromkeys(("temperature", "top_p", "top_k"))
    return options
