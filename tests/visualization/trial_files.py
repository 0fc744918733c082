"""Synthetic trials: log dirs as the perplexity script leaves them, from known NLL values."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


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
