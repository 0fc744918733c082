"""The streams of a trial: what each reads, where it stands, and which rank keeps it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.beginning import beginning_tokens
from data.corpus import Corpus
from data.document import AnyDocument
from data.token_cache import TokenCache
from data.token_stream import Cursor, Encode, TokenStream
from data.tokenization import encode_separator, stream_encoder, unknown_token
from scripts.harness.model import RunnableModel
from scripts.harness.skipping import SKIPPED, Skips, skip_of
from scripts.streaming.arguments import StreamPlan
from scripts.streaming.checkpoints import Checkpoint
from scripts.streaming.token_nll import TokenNllFile
from utils.errors import SharedError, UserError
from utils.ranks.runtime import Runtime, peak_memory
from utils.trials.nll_of_stream import StreamStatistics

TOKEN_NLL_DIGEST = "token_nll_sha256"
"""Field of a stream in a checkpoint: the SHA-256 of the NLL of its tokens so far."""
Chunk = tuple[np.ndarray, list[Cursor]]
"""Tokens of this rank's streams, int64 `[streams, n]`, and where each stream stands after them."""


@dataclass
class Standing:
    """How far all streams of a trial are, in chunks and in tokens of each, and what that took."""

    chunks: int = 0
    position: int = 0
    seconds: float = 0.0
    peak_memory_bytes: int = 0

    @property
    def first_scored(self) -> int:
        """Position of the first token that the next chunk scores: the first of a stream is never scored."""
        return max(self.position, 1)

    def most_memory(self, device: torch.device) -> int:
        """Bytes that a rank has used at most, in an earlier session too."""
        return max(self.peak_memory_bytes, peak_memory(device))


@dataclass
class Stream:
    """One stream of this rank: what it reads, where it stands, and what came out so far.

    token_nll: None unless the NLL of single tokens is kept. skips: the documents without a text that this rank's
    streams have met.
    """

    index: int
    tokens: TokenStream
    cursor: Cursor
    statistics: StreamStatistics
    token_nll: TokenNllFile | None
    skips: Skips

    def keep(self, start: int, nll: np.ndarray, cursor: Cursor) -> None:
        """Add the NLL of the tokens at positions start, start + 1, ..., after which the stream stands at `cursor`."""
        self.cursor = cursor
        self.statistics.add(start, nll)
        if self.token_nll is not None:
            self.token_nll.append(nll)

    def sync(self) -> None:
        """Have the NLL of single tokens on disk."""
        if self.token_nll is not None:
            self.token_nll.sync()

    def tensors(self) -> dict[str, Tensor]:
        """Copies of its sums, for a checkpoint."""
        return {name: torch.tensor(array) for name, array in self.statistics.arrays().items()}

    def take_over(self, checkpoint: Checkpoint) -> dict[str, Tensor]:
        """Go on with the sums of a checkpoint; returns what else it holds of this stream. Raises UserError."""
        tensors = checkpoint.tensors(self.index)
        try:
            self.statistics.restore({name: tensors.pop(name).numpy() for name in self.statistics.arrays()})
        except (KeyError, ValueError) as error:
            raise UserError(
                f"{checkpoint.folder} was written by another version of this code ({error}): go on with that one, "
                "or start afresh with --overwrite"
            ) from None
        return tensors

    def describe(self) -> dict[str, Any]:
        """Its share of a checkpoint's JSON."""
        described = {"stream": self.index, "cursor": self.cursor.to_json(), "token_nll": None}
        described |= {SKIPPED: self.skips.found}
        if self.token_nll is None:
            return described
        return described | {"token_nll": self.token_nll.tokens, TOKEN_NLL_DIGEST: self.token_nll.digest}

    def summary(self, cache_bytes: int) -> dict[str, Any]:
        """Its share of results.json."""
        documents = self.cursor.pass_number * len(self.tokens.corpus) + self.cursor.place + (self.cursor.offset > 0)
        return {
            "stream": self.index,
            "seed": self.tokens.seed,
            "tokens": self.statistics.tokens,
            "nll": self.statistics.total / self.statistics.tokens,
            "documents": documents,
            "passes": documents / len(self.tokens.corpus),
            "cache_bytes": cache_bytes,
        }


@dataclass(frozen=True)
class Texts:
    """The making of a trial's streams: `TokenStream`'s arguments, the seed of stream 0, and who is told of documents
    without a text.
    """

    corpus: Corpus
    encode: Encode
    seed: int
    first: list[int]
    separator: list[int]
    skips: Skips

    def stream(self, index: int, cursor: Cursor) -> TokenStream:
        """Stream `index`, each of which has a seed of its own, from `cursor` on."""
        return TokenStream(self.corpus, self.encode, self.seed + index, self.first, self.separator, cursor)


def make_texts(
    corpus: Corpus, model: RunnableModel, seed: int, document_separator: str, cache: TokenCache | None, skips: Skips
) -> Texts:
    """The corpus as the streams read it: what the tokenizer puts at a beginning, once, and the separator in between.

    skips: told of documents without a text, which give a stream nothing.
    """
    tokenizer = model.tokenizer
    first = beginning_tokens(tokenizer)
    separator = encode_separator(tokenizer, document_separator)
    for ids, where in ((first, "the beginning of a stream"), (separator, "--document_separator")):
        refusal = unknown_token(tokenizer, ids, model.vocab_size, where)
        if refusal:
            raise UserError(refusal)
    encode = passing_over(stream_encoder(tokenizer, model.vocab_size, cache), skips)
    return Texts(corpus, encode, seed, first, separator, skips)


def passing_over(encode: Encode, skips: Skips) -> Encode:
    """`encode` without the documents that have no text: these have no token. Raises UserError as `skips` does."""

    def encode_texts(document: AnyDocument) -> Iterable[Sequence[int] | np.ndarray]:
        skip = skip_of(document)
        if skip is None:
            return encode(document)
        skips.add([skip])
        return []

    return encode_texts


@dataclass(frozen=True)
class Share:
    """The streams that this rank computes, by index. owned: whether it is the one that keeps them."""

    indices: list[int]
    owned: bool


def share_out(streams: int, runtime: Runtime, sharded: bool) -> Share:
    """This rank's streams.

    A sharded model needs every rank in every forward: one without a stream of its own computes another's along.
    Raises SharedError, on all ranks, where one would have nothing to do.
    """
    readers = runtime.readers
    if streams < readers and not sharded:
        raise SharedError(
            f"--streams {streams} leaves {runtime.world_size - streams * runtime.sequence_parallel} of "
            f"{runtime.world_size} ranks without work: give --streams {readers} or more, start fewer ranks, have them "
            "read one stream together with --sequence_parallel, or shard the model with ZeRO-3"
        )
    own = list(range(streams))[runtime.reader :: readers]
    return Share(own or [runtime.reader % streams], bool(own) and runtime.keeps)


def open_streams(
    share: Share, texts: Texts, plan: StreamPlan, log_dir: Path, checkpoint: Checkpoint | None
) -> list[Stream]:
    """The streams of a share where the checkpoint left them, or at their beginning. Raises UserError."""
    saved = {entry["stream"]: entry for entry in checkpoint.state["streams"]} if checkpoint else {}
    streams = []
    for index in share.indices:
        cursor = Cursor(**saved[index]["cursor"]) if index in saved else Cursor()
        entry = saved.get(index, {})
        scored = entry.get("token_nll", 0), entry.get(TOKEN_NLL_DIGEST)
        token_nll = TokenNllFile(log_dir, index, *scored) if plan.save_token_nll and share.owned else None
        statistics = StreamStatistics(plan.streaming_length)
        texts.skips.take_over(entry.get(SKIPPED, []))
        streams.append(Stream(index, texts.stream(index, cursor), cursor, statistics, token_nll, texts.skips))
    return streams


def read_chunks(streams: list[Stream], position: int, plan: StreamPlan) -> Iterator[Chunk]:
    """The rest of the streams from `position` on, chunk by chunk. Raises UserError."""
    for start in range(position, plan.streaming_length, plan.chunk):
        count = min(plan.chunk, plan.streaming_length - start)
        tokens = np.stack([stream.tokens.read(count) for stream in streams])
        yield tokens, [stream.tokens.cursor for stream in streams]
