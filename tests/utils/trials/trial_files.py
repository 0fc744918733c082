"""Synthetic trials: log dirs as the perplexity scripts leave them, from known NLL values."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import UserError
from utils.trials.nll_of_stream import StreamStatistics, linear_edges, log_edges, merge


def write_trial(
    folder: Path, documents: Sequence[np.ndarray], *, pretraining_length: int | None = 8, **arguments: Any
) -> Path:
    """Write a trial of documents with these NLLs: documents[d][i] is that of the token at position i + 1."""
    folder.mkdir(parents=True)
    length = 1 + max(len(document) for document in documents)
    count = np.zeros(length, dtype=np.int64)
    total, squares = np.zeros(length), np.zeros(length)
    for document in documents:
        scored = slice(1, 1 + len(document))
        count[scored] += 1
        total[scored] += document
        squares[scored] += np.square(document)
    with np.errstate(invalid="ignore"):
        mean = total / count
        variance = squares / count - mean**2
    np.savez(folder / "nll.npz", count=count, sum=total, sum_squares=squares, mean=mean, variance=variance)
    config = {
        "script": "eval_ppl_deepspeed",
        "arguments": {
            "model": "tiny",
            "dataset": "plays",
            "max_length": length,
            "log_dir": str(folder),
            **arguments,
        },
        "model": {"name": "tiny", "pretraining_length": pretraining_length},
    }
    results = {
        "nll": total.sum() / count.sum(),
        "documents": len(documents),
        "tokens_per_second": 1234.5,
        "peak_memory_bytes": 3 * 2**29,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def refusals_of_flipped_bytes(path: Path, load: Callable[[], object], step: int) -> int:
    """Flip a byte at every `step`-th place of a file, one at a time: how often `load` refuses it. Others must load."""
    whole, refused = path.read_bytes(), 0
    for place in range(0, len(whole), step):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            load()
        except UserError:
            refused += 1
    return refused


def token_sums(nll: np.ndarray) -> dict[str, np.ndarray]:
    """The sums of a stream: nll[i] is that of the token at position i + 1."""
    statistics = StreamStatistics(len(nll) + 1)
    statistics.add(1, nll)
    return statistics.arrays()


def long_sums(length: int, seed: int, nll: float = 3.0) -> dict[str, np.ndarray]:
    """The sums of a stream too long for its tokens to be drawn one by one: each is exponential around `nll`."""
    rng = np.random.default_rng(seed)
    sums = {}
    for kind, edges in (("linear", linear_edges(length)), ("log", log_edges(length))):
        count = np.diff(edges)
        count[0] -= 1
        total = rng.gamma(np.maximum(count, 1e-9), nll)
        squares = np.maximum(2 * count * nll**2, total**2 / np.maximum(count, 1))
        sums |= {f"{kind}_count": count, f"{kind}_sum": total * (count > 0), f"{kind}_sum_squares": squares}
    return sums


def write_stream_trial(
    folder: Path,
    streams: Sequence[dict[str, np.ndarray]],
    *,
    pretraining_length: int | None = 8192,
    **arguments: Any,
) -> Path:
    """Write a trial of streams with these sums, as token_sums or long_sums give them."""
    folder.mkdir(parents=True)
    length = int(streams[0]["linear_count"].sum()) + 1
    np.savez(folder / "stats.npz", **merge(list(streams), length))
    given = {"model": "tiny", "dataset": "plays", "seed": 0, "streaming_length": length, "streams": len(streams)}
    config = {
        "script": "eval_infinite_ppl",
        "arguments": given | {"log_dir": str(folder)} | arguments,
        "model": {"name": "tiny", "pretraining_length": pretraining_length},
    }
    results = {"tokens_per_second": 1234.5, "peak_memory_bytes": 3 * 2**29}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "results.json").write_text(json.dumps(results))
    return folder
