"""Trials of streams read back: which documents stood where, and the NLL that was measured there."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data.arguments import CorpusPlan, load_corpus
from data.beginning import beginning_tokens, encode_plain
from data.document import AnyDocument
from data.token_stream import TokenStream
from data.tokenization import encode_separator
from models.loading.pretrained import load_tokenizer
from models.loading.source import find_source
from scripts.streaming.token_nll import DTYPE
from utils.arguments import plan_of
from utils.errors import UserError
from utils.trials.files import RESULTS, token_nll_name
from utils.trials.trial import Trial

READ_AT_ONCE = 2**20


@dataclass(frozen=True)
class Reading:
    """A document's tokens in a stream: at positions start to stop - 1, from the document's first token on.

    complete: whether the stream holds all of them.
    """

    document: str
    start: int
    stop: int
    complete: bool


@dataclass(frozen=True)
class Order:
    """One trial. nll: float32 [length], by position; NaN at 0, which nothing predicts. warm_up: tokens."""

    log_dir: Path
    seed: int
    warm_up: int
    nll: np.ndarray
    readings: list[Reading]

    @property
    def settled(self) -> np.ndarray:
        """`nll` with NaN in the warm-up."""
        nll = self.nll.copy()
        nll[: self.warm_up] = np.nan
        return nll

    def longest_readings(self) -> dict[str, Reading]:
        """The first of the readings that hold most of a document, by document."""
        longest: dict[str, Reading] = {}
        for reading in self.readings:
            best = longest.setdefault(reading.document, reading)
            if reading.stop - reading.start > best.stop - best.start:
                longest[reading.document] = reading
        return longest


class RecordingEncoder:
    """Encodes as the trial did, and remembers which document gave how many tokens, in the order of reading."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.encoded: list[tuple[str, int]] = []

    def __call__(self, document: AnyDocument) -> list[list[int]]:
        tokens = encode_plain(self.tokenizer, document.text)
        self.encoded.append((document.id, len(tokens)))
        return [tokens]


def load_order(log_dir: str) -> tuple[Order, dict[str, Any]]:
    """A trial with the documents that it read, and its config.json. Raises UserError where it cannot be compared."""
    folder = Path(log_dir)
    trial = Trial(folder)
    config, results = trial.config, trial.results
    if config is None or results is None:
        raise UserError(f"{folder} holds no finished trial: give the --log_dir of one that has its {RESULTS}")
    nll = read_nll(folder, config["arguments"])
    seed = config["arguments"]["seed"]
    encoded, first, separator = read_again(config["arguments"], len(nll))
    documents = results["streams"][0]["documents"]
    if len(encoded) != documents:
        raise UserError(
            f"{folder} read {documents} documents, and as many tokens of its corpus come from {len(encoded)} now: the "
            "documents or the tokenizer have changed since, so run the trial again"
        )
    window = (config["lambda_attention"] or {}).get("local_branch", 0)
    return Order(folder, seed, window, nll, lay_out(encoded, first, separator, len(nll))), config


def read_nll(folder: Path, arguments: dict[str, Any]) -> np.ndarray:
    """The NLL by position, float32 [streaming_length], NaN at 0. Raises UserError where it is not all there."""
    path = folder / token_nll_name(0)
    if not path.is_file():
        raise UserError(f"{folder} has no {path.name}: run the trial with --save_token_nll")
    nll = np.fromfile(path, dtype=DTYPE)
    length = arguments.get("streaming_length")
    if length is None or len(nll) != length - 1:
        raise UserError(f"{path} holds the NLL of {len(nll)} tokens, which is not that of a stream of {length}")
    return np.concatenate([np.full(1, np.nan, dtype=DTYPE), nll])


def read_again(arguments: dict[str, Any], length: int) -> tuple[list[tuple[str, int]], int, int]:
    """The first `length` tokens of the stream that these arguments make.

    Returns the documents' ids and numbers of tokens, in order, and how many tokens begin the stream and separate two.
    """
    flag = "tokenizer_path" if arguments["tokenizer_path"] else "model"
    tokenizer = load_tokenizer(find_source(f"--{flag}", arguments[flag]))
    first = beginning_tokens(tokenizer)
    separator = encode_separator(tokenizer, arguments["document_separator"])
    encode = RecordingEncoder(tokenizer)
    corpus = load_corpus(replace(plan_of(CorpusPlan, arguments), seed=None))
    stream = TokenStream(corpus, encode, arguments["seed"], first, separator)
    for start in range(0, length, READ_AT_ONCE):
        stream.read(min(READ_AT_ONCE, length - start))
    return encode.encoded, len(first), len(separator)


def lay_out(encoded: list[tuple[str, int]], first: int, separator: int, length: int) -> list[Reading]:
    """Documents of these ids and numbers of tokens behind each other, up to `length`; empty ones are nowhere.

    first, separator: how many tokens stand before the first document, and between two.
    """
    readings, position = [], 0
    for document, tokens in encoded:
        if not tokens:
            continue
        start = position + (separator if readings else first)
        position = start + tokens
        stop = min(position, length)
        readings.append(Reading(document, start, max(start, stop), position <= length))
    return readings
