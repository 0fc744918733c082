"""Flags of the streaming script."""

from dataclasses import dataclass

from utils.arguments import HarnessParser, whole_number

NO_CACHE = "none"
SAVE_SECONDS = 60


@dataclass(frozen=True)
class StreamPlan:
    """How endless streams are read.

    streaming_length: tokens of a stream, its first one included. max_length: of a chunk. document_separator: the text
    between two documents, as the flag takes it. streams: how many there are. save_steps, save_seconds: chunks and
    seconds from one checkpoint to the next, where given. max_seconds: when to end. save_token_nll: whether the NLL of
    every token is kept. token_cache: the folder in which the corpus's ids are kept; None: the user's cache, NO_CACHE:
    nowhere.
    """

    streaming_length: int
    max_length: int
    document_separator: str
    streams: int
    save_steps: int | None
    save_seconds: int | None
    max_seconds: int | None
    save_token_nll: bool
    token_cache: str | None

    @property
    def chunk(self) -> int:
        """Tokens that are read at once."""
        return self.max_length

    @property
    def seconds_between_checkpoints(self) -> int | None:
        """None: only --save_steps counts, which was given alone."""
        if self.save_seconds is None and self.save_steps is None:
            return SAVE_SECONDS
        return self.save_seconds


def add_stream_arguments(parser: HarnessParser) -> None:
    """How long an endless stream is read, in which chunks, and what is kept of it."""
    group = parser.add_argument_group("stream")
    group.add_argument(
        "--streaming_length",
        type=whole_number(2),
        default=1_000_000,
        metavar="TOKENS",
        help="length of the stream, its first token included (default: %(default)s)",
    )
    group.add_argument(
        "--max_length",
        type=whole_number(1),
        default=4096,
        metavar="TOKENS",
        help="chunk: tokens fed at once; the numbers do not depend on it (default: %(default)s)",
    )
    group.add_argument(
        "--document_separator",
        default="\\n\\n",
        metavar="TEXT",
        help="what stands between two documents: a text in which \\n is a newline, 'eos' for the tokenizer's "
        "end-of-sequence token, or 'none' (default: %(default)s)",
    )
    group.add_argument(
        "--streams",
        type=whole_number(1),
        default=1,
        metavar="N",
        help="independent streams, with seeds --seed, --seed + 1, ..., shared out over ranks (default: %(default)s)",
    )
    group.add_argument(
        "--save_steps",
        type=whole_number(1),
        metavar="CHUNKS",
        help="write a checkpoint after so many chunks (default: only --save_seconds counts)",
    )
    group.add_argument(
        "--save_seconds",
        type=whole_number(1),
        metavar="SECONDS",
        help="write a checkpoint after so many seconds, or at --save_steps if that comes first "
        f"(default: {SAVE_SECONDS}; with --save_steps alone: only that counts)",
    )
    group.add_argument(
        "--max_seconds",
        type=whole_number(1),
        metavar="SECONDS",
        help="end with a checkpoint at the first chunk after so many seconds, with exit status 75: the same command "
        "goes on (default: never)",
    )
    group.add_argument(
        "--save_token_nll", action="store_true", help="keep the NLL of every token, in token_nll_0000.f32, ..."
    )
    group.add_argument(
        "--token_cache",
        metavar="DIR",
        help="folder in which the ids of documents are kept, so that these are tokenized once; 'none' tokenizes them "
        "anew in each pass (default: lm-infinite/ids in the user's cache)",
    )
