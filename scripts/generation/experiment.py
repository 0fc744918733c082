"""Generation against position: at each one the text so far is the prompt, what follows it the reference."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.arguments import CorpusPlan, Truncation, load_corpus
from data.corpus import Corpus
from data.document import AnyDocument
from data.sources.files import words_on_unread
from data.tokenization import encode_pieces, unknown_token
from scripts.generation import SCRIPT
from scripts.generation.arguments import Generation, PositionPlan
from scripts.generation.generator import Generator
from scripts.generation.positions import PositionGenerator
from scripts.generation.report import describe, summarise
from scripts.generation.way import choose_way
from scripts.harness.documents import DocumentWork
from scripts.harness.experiment import Experiment, Results, all_failed
from scripts.harness.model import RunnableModel, load_model
from scripts.harness.model_arguments import ModelPlan
from scripts.harness.positions import refuse_prompts_beyond_table
from scripts.harness.prefill_arguments import PrefillPlan
from scripts.harness.skipping import Skips, skip_of
from utils.errors import UserError
from utils.progress import Amount
from utils.ranks.runtime import Runtime, describe_device
from utils.trials.trial import Trial


@dataclass(frozen=True)
class GenerationByPosition(Experiment):
    """The texts that a model writes after the first so many tokens of each document."""

    model: ModelPlan
    corpus: CorpusPlan
    truncation: Truncation
    positions: PositionPlan
    generation: Generation
    reading: PrefillPlan
    batch_size: int
    strict_data: bool = False

    script = SCRIPT

    def open(self, runtime: Runtime) -> "Generating":
        with runtime.together():
            corpus = load_corpus(self.corpus, self.strict_data)
        model = load_model(self.model, runtime)
        longest, generated = self.positions.longest_prompt, self.generation.max_generation_length
        refuse_prompts_beyond_table(model.model, longest, generated, self.positions.longest_flag)
        way = choose_way(self.generation, self.reading, model, self.model, self.batch_size, runtime)
        with runtime.together():
            generator = Generator(model.model, model.tokenizer, self.generation, runtime.device, way=way)
        work = Generating(self, corpus, model, generator, runtime)
        work.prefill = way.reading
        work.announcement += way.announcement(self.positions.longest_prompt) + words_on_unread(corpus.unread)
        return work

    def describe(self, results: Results) -> str:
        return describe(results)

    def failure(self, results: Results) -> str | None:
        rows = results["positions"]
        return all_failed(sum(row["failed"] for row in rows), sum(row["documents"] for row in rows), "text")


class Generating(DocumentWork):
    """Generates in a corpus, document by document, at all positions of one before the next."""

    def __init__(
        self,
        plan: GenerationByPosition,
        corpus: Corpus,
        model: RunnableModel,
        generator: Generator,
        runtime: Runtime,
    ) -> None:
        super().__init__(runtime, model, corpus, corpus.name, plan.corpus.start_data_from, plan.batch_size)
        self.plan = plan
        self.generator = PositionGenerator(generator, plan.positions, converted=plan.model.attention is not None)

    def resume(self, trial: Trial | None, log_dir: Path) -> None:
        super().resume(trial, log_dir)
        self.skips = Skips(self.runtime.console, self.plan.strict_data)
        self.progress = self.show_progress(Amount(self.count, len(self.done), "examples", digits=2))
        self.engine = self.model.place(self.model.model)  # it holds the shards together, and must live

    def do(self, piece: list[int]) -> dict[str, Any]:
        with self.runtime.together():
            read = self.read(piece)
            skips = [skip for document in read if (skip := skip_of(document)) is not None]
            documents = [document for document in read if skip_of(document) is None]
            texts = [self.encode(document) for document in documents]
        lines = []
        found = self.generator.lines(texts, [document.index for document in documents])
        for row, line in found:
            parts = sum(other == row for other, _ in found)
            lines.append({"index": documents[row].index, "id": documents[row].id, "parts": parts, **line})
        if not self.runtime.keeps:
            return {"lines": [], "documents": 0, "skips": [], "peak_memory": self.peak_memory()}
        return {"lines": lines, "documents": len(piece), "skips": skips, "peak_memory": self.peak_memory()}

    def encode(self, document: AnyDocument) -> list[int]:
        """The tokens that are read of a document. Raises UserError if the model does not know one of them."""
        tokenizer, cut = self.model.tokenizer, self.plan.truncation
        ids = encode_pieces(tokenizer, document.pieces(), cut.max_length, cut.truncation_side).input_ids
        refusal = unknown_token(tokenizer, ids, self.model.vocab_size, f"document {document.id!r}")
        if refusal:
            raise UserError(refusal)
        return ids

    def keep(self, gathered: list[dict[str, Any]], seconds: float) -> None:
        lines = [line for rank in gathered for line in rank["lines"]]
        self.journal.commit(lines, seconds, max(rank["peak_memory"] for rank in gathered))
        self.progress.end_step(sum(rank["documents"] for rank in gathered))
        self.skips.add([skip for rank in gathered for skip in rank["skips"]])

    def results(self) -> Results:
        device = describe_device(self.runtime.device)
        return summarise(self.journal, self.plan.positions, self.corpus_name, device) | self.skips.results()
