"""Diagnosing whole documents: text in; a file of arrays and a line for samples.jsonl out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from data.arguments import Truncation
from data.document import AnyDocument
from data.tokenization import EncodedText, encode_pieces, pad_right, unknown_token
from models.diagnosis.diagnosed_model import Measurement
from scripts.harness.journal import DIGEST
from scripts.harness.model import RunnableModel
from scripts.harness.skipping import Skip, skip_of
from utils.errors import UserError
from utils.files import read_arrays, replace_arrays, writing_to
from utils.progress import Progress, layer_progress
from utils.ranks.runtime import Runtime, is_out_of_memory
from utils.text_tables import counted
from utils.trials.diagnosis_arrays import COMPONENTS
from utils.trials.files import DOCUMENT_ARRAYS
from utils.trials.seals import file_digest

SHORTEST = COMPONENTS + 1  # tokens: principal components need more points than there are of them
NO_DOCUMENT = EncodedText([0] * SHORTEST, bytes=0)


class DocumentFiles:
    """Per document a file checkpoint-document-INDEX.npz in the log dir, written by the rank that read it.

    It holds what `Measurement.arrays` gives, and is removed once the trial is finished.
    """

    def __init__(self, log_dir: Path) -> None:
        self.log_dir = log_dir

    def path(self, index: int) -> Path:
        return self.log_dir / f"{DOCUMENT_ARRAYS}{index:06d}.npz"

    def save(self, index: int, arrays: dict[str, np.ndarray]) -> str:
        """Returns the SHA-256 of the file."""
        with writing_to(self.log_dir):
            replace_arrays(self.path(index), arrays)
            return file_digest(self.path(index))

    def load(self, index: int) -> dict[str, np.ndarray]:
        """Raises UserError where the file is not there or damaged."""
        path = self.path(index)
        try:
            return read_arrays(path)
        except Exception as error:  # numpy and zipfile raise many kinds
            raise UserError(
                f"{path} cannot be read ({error}): remove it, and the same command measures that document again; with "
                "ranks on several machines, --log_dir must be a folder that they share"
            ) from None

    def remove_all(self) -> None:
        """A finished trial needs none."""
        with writing_to(self.log_dir):
            for path in self.log_dir.glob(f"{DOCUMENT_ARRAYS}*"):
                path.unlink()


class DocumentDiagnosis:
    """Measures batches of documents with `diagnosed`, a DiagnosedModel that may be wrapped by DeepSpeed."""

    def __init__(
        self,
        diagnosed: nn.Module,
        model: RunnableModel,
        truncation: Truncation,
        files: DocumentFiles,
        runtime: Runtime,
        progress: Progress,
    ) -> None:
        self.diagnosed, self.truncation, self.files = diagnosed, truncation, files
        self.tokenizer, self.vocab_size = model.tokenizer, model.vocab_size
        self.runtime, self.progress = runtime, progress

    def measure(self, documents: Sequence[AnyDocument]) -> list[dict[str, Any]]:
        """Measure documents in one forward, save their arrays, return their lines for samples.jsonl.

        One that cannot be measured has its `error` in place of numbers. There is always a forward, with a text of no
        meaning if need be: under ZeRO-3 the other ranks need this one's share of the weights. Raises UserError when
        memory runs out.
        """
        max_length, side = self.truncation.max_length, self.truncation.truncation_side
        encoded = [encode_pieces(self.tokenizer, document.pieces(), max_length, side) for document in documents]
        lines = [self._line(document, text) for document, text in zip(documents, encoded)]
        sound = [(line, text) for line, text in zip(lines, encoded) if _is_sound(line)]
        self.progress.begin_step(sum(len(text.input_ids) for _, text in sound), len(sound))
        measured = self._forward([text.input_ids for _, text in sound] or [NO_DOCUMENT.input_ids])
        for (line, _), measurement in zip(sound, measured):
            self._keep(line, measurement)
        return lines

    def _line(self, document: AnyDocument, text: EncodedText) -> dict[str, Any]:
        tokens = len(text.input_ids)
        line = {"index": document.index, "id": document.id, "tokens": tokens, "rank": self.runtime.rank}
        skip = skip_of(document, tokens, SHORTEST)
        if skip is not None:
            return line | {"skip": skip}
        unknown = unknown_token(self.tokenizer, text.input_ids, self.vocab_size, f"document {document.id!r}")
        return line | ({"error": unknown} if unknown else {})

    def _forward(self, batch: Sequence[Sequence[int]]) -> list[Measurement]:
        input_ids = pad_right(batch).to(self.runtime.device)
        try:
            with layer_progress(self.diagnosed, self.progress.within_step):
                return self.diagnosed(input_ids, [len(ids) for ids in batch])
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                f"memory ran out over {counted(len(batch), 'document')} of up to {input_ids.shape[1]} tokens: what "
                "is measured is kept; give a smaller --batch_size or --max_length, or a --deepspeed_config that "
                "offloads parameters"
            ) from None

    def _keep(self, line: dict[str, Any], measurement: Measurement) -> None:
        arrays = measurement.arrays()
        broken = np.isnan(arrays["entropy"]).any(1) & (arrays["attended"] > 0)
        if broken.any() or not np.isfinite(arrays["hidden"]).all():
            line["error"] = (
                f"the attention of document {line['id']!r} is no number in some layer: its logits or hidden states "
                "overflow; try --dtype float32"
            )
            return
        line["entropy"] = float(np.nanmean(arrays["entropy"], dtype=np.float64))
        line[DIGEST] = self.files.save(line["index"], arrays)


def measured_lines(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of documents that could be measured."""
    return [line for line in lines if _is_sound(line)]


def skips_among(lines: Sequence[dict[str, Any]]) -> list[Skip]:
    """The documents that were passed over."""
    return [line["skip"] for line in lines if "skip" in line]


def _is_sound(line: dict[str, Any]) -> bool:
    return "error" not in line and "skip" not in line


def first_error(lines: Sequence[dict[str, Any]]) -> str | None:
    """The sentence about the first document that could not be measured."""
    return next((line["error"] for line in sorted(lines, key=lambda line: line["index"]) if "error" in line), None)
