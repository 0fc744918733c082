"""The streams of a trial: what each reads, where it stands, and which rank keeps it."""

from dataclasses import dataclass
from typing import Any

from data.corpus import Corpus
from data.token_stream import Cursor, Encode, TokenStream
from utils.errors import SharedError
from utils.ranks.runtime import Runtime
from utils.trials.nll_of_stream import StreamStatistics
from utils.trials.token_nll import TokenNllFile


@dataclass
class Stream:
    """One stream of this rank: what it reads, where it stands, and what came out so far.

    token_nll: None unless the NLL of single tokens is kept.
    """

    index: int
    tokens: TokenStream
    cursor: Cursor
    statistics: StreamStatistics
    token_nll: TokenNllFile | None

    def describe(self) -> dict[str, Any]:
        """Its share of a checkpoint's JSON."""
        scored = None if self.token_nll is None else self.token_nll.tokens
        return {"stream": self.index, "cursor": self.cursor.to_json(), "token_nll": scored}


@dataclass(frozen=True)
class Texts:
    """What the streams of a trial are made of: `TokenStream`'s arguments, and the seed of stream 0."""

    corpus: Corpus
    encode: Encode
    seed: int
    first: list[int]
    separator: list[int]

    def stream(self, index: int, cursor: Cursor) -> TokenStream:
        """Stream `index`, each of which has a seed of its own, from `cursor` on."""
        return TokenStream(self.corpus, self.encode, self.seed + index, self.first, self.separator, cursor)


def share_out(streams: int, runtime: Runtime, sharded: bool) -> tuple[list[int], bool]:
    """This rank's streams, and whether it is the one that keeps them.

    A sharded model needs every rank in every forward: one without a stream of its own computes another's along.
    Raises SharedError, on all ranks, where one would have nothing to do.
    """
    if streams < runtime.world_size and not sharded:
        raise SharedError(
            f"--streams {streams} leaves {runtime.world_size - streams} of {runtime.world_size} ranks without work: "
            f"give --streams {runtime.world_size} or more, start fewer ranks, or shard the model with ZeRO-3"
        )
    own = list(range(streams))[runtime.rank :: runtime.world_size]
    return own or [runtime.rank % streams], bool(own)
