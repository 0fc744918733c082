"""The model as lm-eval asks it: its own `HFLM`, with requests read as elsewhere in this repository.

What differs from HFLM, on the same tokens:
- a document's log-likelihood is taken in one pass, through the bounded cache, unless it is longer than `max_length`;
- a continuation's is taken from the logits of that continuation alone, in float32, and its context is read in chunks;
- a prompt is read in chunks, and generation goes on from that cache;
- a tokenizer that would end each text with an end-of-sequence token does not;
- requests that are cut, and documents that are read in windows, are counted.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import has_bos_prefix, normalize_gen_kwargs, resolve_max_length
from torch import Tensor

from data.beginning import beginning_tokens, encode_plain
from data.tokenization import unknown_token
from models.assumptions import OUTPUT_CACHE
from scripts.generation.generator import Generator
from scripts.generation.padding import pad_left
from scripts.harness.model import RunnableModel
from scripts.lm_harness.scorers import Answer, ContinuationScorer, DocumentScorer
from scripts.perplexity.reading import ChunkReader
from utils.errors import UserError
from utils.progress import Amount, Progress
from utils.ranks.runtime import Runtime, peak_memory

NO_LIMIT = 10**9
"""As lm-eval's largest length: no text has so many tokens."""
Request = tuple[Any, list[int], list[int]]


@dataclass
class Counts:
    """Of one task: requests, those that were cut on the left, and documents that were read in several windows."""

    requests: int = 0
    truncated: int = 0
    windowed: int = 0


@register_model("lm_infinite")
class LmInfinite(HFLM):
    """A loaded model, converted or not, for lm-eval. Everything that it is made of is given: nothing is loaded here.

    max_length: tokens of a request at most, what is generated included; None for no limit.
    """

    def __init__(
        self,
        model: RunnableModel,
        generator: Generator,
        reader: ChunkReader,
        runtime: Runtime,
        batch_size: int,
        max_length: int | None,
    ) -> None:
        with _quiet("lm_eval.models.huggingface"):  # it warns of what is meant: a model that is loaded already
            super().__init__(
                pretrained=model.model,
                backend="causal",
                tokenizer=model.tokenizer,
                batch_size=batch_size,
                max_length=max_length or NO_LIMIT,
            )
        if self.prefix_token_id is None:
            raise UserError(
                "lm-eval puts a beginning- or end-of-sequence token before texts, and the tokenizer has neither: name "
                "another with --tokenizer_path"
            )
        self._device = runtime.device
        self._runnable, self._generator = model, generator
        show = partial(_progress, runtime)
        self._show = show
        self._continuations = ContinuationScorer(generator, batch_size, show)
        self._documents = DocumentScorer(reader, batch_size, self.max_length, show)
        self.counts = Counts()

    def get_model_info(self) -> dict[str, Any]:
        """Facts for lm-eval's results, of what is loaded: HFLM would ask the hub."""
        return {"model_num_parameters": self._model.num_parameters(), "model_dtype": str(self._model.dtype)}

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, left_truncate_len: int | None = None
    ) -> list[int]:
        """The tokens of a text behind those of its beginning, unless it has them or is to have none."""
        begun = add_special_tokens
        if begun is None:
            begun = not has_bos_prefix(string, self.tokenizer.decode(self.prefix_token_id))
        ids = (beginning_tokens(self.tokenizer) if begun else []) + encode_plain(self.tokenizer, string)
        refusal = unknown_token(self.tokenizer, ids, self._runnable.vocab_size, "a request of lm-eval")
        if refusal is not None:
            raise UserError(refusal)
        return ids[-left_truncate_len:] if left_truncate_len else ids

    def tok_batch_encode(
        self,
        strings: Sequence[str],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Token ids and mask, [batch, longest], padded on the left; texts that are cut are counted."""
        rows = [self.tok_encode(string) for string in strings]
        return pad_left([self._cut(ids, left_truncate_len) for ids in rows])

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood of whole texts."""
        self.counts.requests += len(requests)
        documents = [
            self._documents.windows(self.tok_encode(request.args[0]), self.prefix_token_id) for request in requests
        ]
        self.counts.windowed += sum(len(windows) > 1 for windows in documents)
        return self._documents.score(documents)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[Answer]:
        self.counts.requests += len(requests)
        return super().loglikelihood(requests, disable_tqdm=True)

    def _loglikelihood_tokens(self, requests: Sequence[Request], disable_tqdm: bool = False) -> list[Answer]:
        """The answers to (texts, context, continuation); a context is cut where both are too long together."""
        return self._continuations.score([self._fit(context, scored) for _, context, scored in requests])

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """What the model writes after each prompt, up to a stop string."""
        for request in requests:
            generated = normalize_gen_kwargs(request.args[1], self.max_gen_toks)["max_gen_toks"]
            if generated >= self.max_length:
                raise UserError(
                    f"--max_length {self.max_length} has no room for a prompt: task {request.task_name!r} generates "
                    f"{generated} tokens, so give a larger one"
                )
        self.counts.requests += len(requests)
        self._progress = self._show(Amount(len(requests), 0, "requests", digits=2))
        return super().generate_until(requests, disable_tqdm=True)

    @torch.no_grad()
    def _model_generate(
        self, context: Tensor, max_length: int, stop: list[str], attention_mask: Tensor, **generation_kwargs: Any
    ) -> Tensor:
        """As HFLM does, behind the cache of prompts that take several chunks."""
        cache = self._generator.read(context, attention_mask)
        held = {} if cache is None else {OUTPUT_CACHE: cache}
        with self._generator.decoding:
            output = super()._model_generate(
                context, max_length, stop, attention_mask=attention_mask, **held, **generation_kwargs
            )
        self._progress.end_step(len(context))
        return output

    def _fit(self, context: list[int], scored: list[int]) -> tuple[list[int], list[int]]:
        """The pair within `max_length` tokens of input, its context cut on the left and counted."""
        if len(scored) > self.max_length:
            raise UserError(
                f"--max_length {self.max_length} is shorter than a continuation of {len(scored)} tokens that lm-eval "
                "has scored: give a larger one"
            )
        return self._cut(context, self.max_length + 1 - len(scored)), scored

    def _cut(self, ids: list[int], most: int | None) -> list[int]:
        if not most or len(ids) <= most:
            return ids
        self.counts.truncated += 1
        return ids[-most:]


def default_length(model: RunnableModel) -> int:
    """The tokens that lm-eval gives a vanilla model at most."""
    return resolve_max_length(model.model.config, model.tokenizer, default=HFLM._DEFAULT_MAX_LENGTH)


def _progress(runtime: Runtime, amount: Amount, nll: str | None = None) -> Progress:
    return Progress(runtime.console, amount, partial(peak_memory, runtime.device), nll)


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """In it, this logger says errors alone."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
