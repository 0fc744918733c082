"""Scoring whole documents: text in, NLL per token and a line for samples.jsonl out."""

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.arguments import Truncation
from data.document import AnyDocument
from data.tokenization import EncodedText, encode_pieces, unknown_token
from scripts.harness.model import RunnableModel
from scripts.harness.positions import beyond_table
from scripts.harness.skipping import Skip, skip_of
from scripts.perplexity.reading import ChunkReader
from utils.progress import Progress
from utils.ranks.runtime import Runtime

SHORTEST = 2  # tokens: the first of a document is never scored
NO_DOCUMENT = EncodedText([0] * SHORTEST, bytes=0)


@dataclass
class ScoredDocument:
    """One document's line of samples.jsonl and the NLL of its tokens 1 to n - 1 (float32 [n - 1], nats).

    `error`: the sentence that says why it could not be scored; `skip`: why it is passed over. Its `nll` is then empty.
    """

    sample: dict[str, Any]
    nll: np.ndarray
    error: str | None = None
    skip: Skip | None = None

    @property
    def scored(self) -> bool:
        return self.error is None and self.skip is None

    def to_json(self) -> dict[str, Any]:
        """For sending to another rank, bit for bit."""
        nll = base64.b64encode(self.nll.astype("<f4").tobytes()).decode()
        return {"sample": self.sample, "nll": nll, "error": self.error, "skip": self.skip}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "ScoredDocument":
        nll = np.frombuffer(base64.b64decode(value["nll"]), dtype="<f4")
        return cls(value["sample"], nll, value["error"], value["skip"])


class DocumentScorer:
    """Scores batches of documents, which `reader` reads with `model`."""

    def __init__(
        self,
        reader: ChunkReader,
        model: RunnableModel,
        truncation: Truncation,
        runtime: Runtime,
        progress: Progress,
    ) -> None:
        self.reader, self.truncation, self.runtime, self.progress = reader, truncation, runtime, progress
        self.model, self.tokenizer, self.vocab_size = model, model.tokenizer, model.vocab_size

    def score(self, documents: Sequence[AnyDocument]) -> list[ScoredDocument]:
        """Score documents together; one that cannot be scored comes back with its error.

        There is always a text, one of no meaning if need be: under ZeRO-3 the other ranks need this one's share of the
        weights. Raises UserError when memory runs out.
        """
        max_length, side = self.truncation.max_length, self.truncation.truncation_side
        encoded = [encode_pieces(self.tokenizer, document.pieces(), max_length, side) for document in documents]
        refused = [self._refusal(document, text) for document, text in zip(documents, encoded)]
        batch = [text for text, refusal in zip(encoded, refused) if refusal is None]
        self.progress.begin_step(sum(len(text.input_ids) - 1 for text in batch), len(batch))
        started = time.monotonic()
        nll = iter(self.reader.read([text.input_ids for text in batch or [NO_DOCUMENT]], self.progress))
        seconds = (time.monotonic() - started) / max(len(batch), 1)
        return [
            self._describe(document, text, next(nll), seconds) if refusal is None else refusal
            for document, text, refusal in zip(documents, encoded, refused)
        ]

    def _refusal(self, document: AnyDocument, text: EncodedText) -> ScoredDocument | None:
        """This document with the reason why it is not scored; None if it is."""
        tokens = len(text.input_ids)
        skip = skip_of(document, tokens, SHORTEST)
        if skip is not None:
            return _unscored(document, skip=skip)
        what = f"document {document.id!r} (number {document.index}), of {tokens} tokens,"
        beyond = beyond_table(self.model.model, tokens, what, "--max_length {most}")
        unknown = unknown_token(self.tokenizer, text.input_ids, self.vocab_size, f"document {document.id!r}")
        error = beyond or unknown
        return None if error is None else _unscored(document, error)

    def _describe(self, document: AnyDocument, text: EncodedText, nll: np.ndarray, seconds: float) -> ScoredDocument:
        broken = np.flatnonzero(~np.isfinite(nll))
        if len(broken):
            place = int(broken[0])
            return _unscored(
                document,
                f"the NLL of document {document.id!r} is {nll[place]} at position {place + 1}: the model's "
                "logits are no numbers there; try --dtype float32",
            )
        sample = {
            "index": document.index,
            "id": document.id,
            "tokens": len(text.input_ids),
            "scored": len(nll),
            "nll": float(nll.mean(dtype=np.float64)),
            "bytes": text.bytes,
            "seconds": round(seconds, 6),
            "rank": self.runtime.rank,
        }
        return ScoredDocument(sample, nll)


def _unscored(document: AnyDocument, error: str | None = None, skip: Skip | None = None) -> ScoredDocument:
    sample = {"index": document.index, "id": document.id}
    return ScoredDocument(sample, np.empty(0, dtype=np.float32), error, skip)
